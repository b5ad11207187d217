"""Calls that passes insert into a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode


def insert_call(graph: Graph, origin: Node, mode: FakeTensorMode, target: Any, *args: Any, **kwargs: Any) -> Node:
    """Insert a call with the metadata, and so the source line, of the node `origin`."""
    node = graph.call_function(target, args, kwargs)
    node.meta = {key: value for key, value in origin.meta.items() if key != "tensor_meta"}  # of another shape, maybe
    with mode:
        node.meta["val"] = target(*torch.fx.map_arg(args, lambda one: one.meta["val"]), **kwargs)
    return node
