"""Models of DistributedDataParallel in a whole step: gradients are averaged and buffers broadcast within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from .._torch_compat import OpOverload, name_of_group

functional = torch.ops._c10d_functional
_copy = torch.ops.aten.copy_.default


@dataclass(frozen=True)
class DataParallel:
    """The process group of a DistributedDataParallel and what its ranks share.

    group: its process group's name. buffers: whether those that the model writes begin as on the first rank.
    """

    group: str
    buffers: bool


def without_data_parallel(model: Module) -> tuple[Module, DataParallel | None]:
    """Return the module in a DistributedDataParallel, and what its ranks share; any other model as it is.

    Raises NotImplementedError for communication hooks and DDP's own mixed precision.
    """
    if not isinstance(model, DistributedDataParallel):
        return model, None
    unknown = {"communication hooks": model._comm_hooks, "its own mixed precision": model.mixed_precision}
    for what, given in unknown.items():
        if given:
            raise NotImplementedError(
                f"a DistributedDataParallel with {what} cannot be part of a training step, whose program has the mean "
                'of the gradients\n  try: torch.compile(model, backend="tpu"), and call the optimizer in eager'
            )
    return model.module, DataParallel(name_of_group(model.process_group), model.broadcast_buffers)


def average(graph: Graph, gradients: Sequence[Node], shared: DataParallel) -> list[Node]:
    """Return the means of gradients over the ranks, as nodes added to the graph; XLA combines their collectives."""
    return [_collective(graph, functional.all_reduce.default, each, "avg", shared.group) for each in gradients]


def broadcast_written(graph: Graph, inputs: Sequence[Node], shared: DataParallel) -> None:
    """Let those inputs that the graph writes to, as running means, begin as on the first rank, in place."""
    for given in inputs if shared.buffers else ():
        if not any(user.target is _copy and user.args[0] is given for user in given.users):
            continue
        # Nodes of a graph compare by their place in it.
        readers = [user for user in given.users if not (user.target is _copy and user.args[0] is given)]
        with graph.inserting_before(min(readers)):
            sent = _collective(graph, functional.broadcast.default, given, 0, shared.group)
        for reader in readers:
            reader.replace_input_with(given, sent)


def _collective(graph: Graph, operator: OpOverload, node: Node, *arguments: Any) -> Node:
    begun = graph.call_function(operator, (node, *arguments))
    ended = graph.call_function(functional.wait_tensor.default, (begun,))
    begun.meta["val"] = ended.meta["val"] = node.meta["val"]
    return ended
