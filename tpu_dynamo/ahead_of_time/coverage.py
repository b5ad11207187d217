"""Lists of what is lowered: every operator of the tables, and the operators of a user's model, without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import PATTERNS, Unsupported, UnsupportedOp, all_lowerings, survey

from ..cache.signature import Frame
from ..graph.prepare import prepare_graph
from .capture import capture


def operator_rows() -> list[tuple[str, str, str]]:
    """List every entry of the tables as operator, way of lowering, and what it does or why; sorted by operator.

    Operators of other libraries are named as `library::operator`, for all of their overloads.
    """
    return sorted(
        (
            str(lowering.overload),
            "torch-mlir, else kernel" if lowering.overload in PATTERNS else str(lowering.how),
            " ".join(lowering.reason.split()),
        )
        for lowering in all_lowerings()
    )


@dataclass
class Coverage:
    """The operators of a model's graphs.

    operators: how often each (operator, way of lowering) occurs. unsupported: what cannot be lowered, not among them.
    graphs: how many graphs Dynamo made.
    """

    operators: Counter[tuple[str, str]] = field(default_factory=Counter)
    unsupported: list[Unsupported] = field(default_factory=list)
    graphs: int = 0


def cover(
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
) -> Coverage:
    """Find the operators that a call of `model` consists of, and how each would be lowered.

    Nothing is computed: parameters and inputs are replaced by fake tensors of their shapes, so meta tensors do.
    training: include the graphs of the backward pass.
    """
    found = Coverage()

    def collect(role: str, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Frame) -> None:
        found.graphs += 1
        graph = prepare_graph(role, graph_module, role, frame)
        try:
            sizes = graph.sizes(example_inputs)
        except UnsupportedOp as unsupported:
            found.unsupported += unsupported.problems
            return
        operators, problems = survey(graph.module, sizes)
        found.operators += operators
        found.unsupported += problems

    capture(model, args, kwargs, collect, training=training)
    return found
