"""Streams of the accelerator, which Dynamo looks up before every call for the graph to use."""

from __future__ import annotations

import torch
from torch._dynamo.graph_bytecode_inputs import (
    CURRENT_STREAM_INDEX,
    get_external_object_by_index,
    index_to_bytecode_constructor,
    index_to_external_object_weakref,
    reset_user_object_tracking,
)
from torch.fx import GraphModule, Node


def leave_out_streams(graph_module: GraphModule) -> None:
    """Keep Dynamo from looking up the current stream before each call of a graph that uses no stream.

    In a process with an accelerator, and torch.device("tpu") is one, Dynamo 2.13 numbers the objects that graphs ask
    for by number, the current stream first; the bytecode that it writes once the backend has returned looks up all of
    them, if there are any. For the stream alone that is 3 us a call. (`SymbolicStreamState`, `OutputGraph`)
    """
    if list(index_to_bytecode_constructor) != [CURRENT_STREAM_INDEX]:
        return  # there are others, as modules of leaf functions
    stream = index_to_external_object_weakref[CURRENT_STREAM_INDEX]()
    graphs = [module.graph for module in graph_module.modules() if isinstance(module, GraphModule)]
    if isinstance(stream, torch.Stream) and not any(_uses_streams(node) for graph in graphs for node in graph.nodes):
        reset_user_object_tracking()


def _uses_streams(node: Node) -> bool:
    return node.target is get_external_object_by_index or getattr(node.target, "namespace", "") == "streams"
