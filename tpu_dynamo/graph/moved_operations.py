"""A graph that was written down has the lines of its source then: those that the source has now take their place."""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import GraphModule

from tpu_dynamo_lowering import operation_name, user_line
from tpu_dynamo_runtime import Renaming


def move_operations(graph_module: GraphModule, before: Sequence[str], after: Sequence[str]) -> None:
    """Give a graph's operations the lines and modules of another graph of Dynamo's, equal to that which it was made of.

    before, after: the names of both graphs' operations; of unequal number, they change nothing.
    """
    renaming = Renaming(before, after)
    for node in graph_module.graph.nodes:
        line = user_line(node)
        moved = None if line is None else renaming.origin(operation_name(line, node))
        if line is None or moved is None:
            continue
        file, number = moved.place
        node.meta["stack_trace"] = f'  File "{file}", line {number}, in {line.function}\n'
        node.meta["nn_module_stack"] = {"": (moved.module, None)} if moved.module else {}
