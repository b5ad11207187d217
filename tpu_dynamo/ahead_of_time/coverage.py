"""Lists of what is lowered: every operator of the tables, and the operators of a user's model, without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import PATTERNS, Unsupported, UnsupportedOp, all_lowerings, prepare, size_sources, survey

from .._torch_compat import size_hint
from ..cache.signature import Frame
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

    def collect(role: str, graph_module: GraphModule, example_inputs: Sequence[Any], _: Frame) -> None:
        found.graphs += 1
        prepared = prepare(graph_module)
        try:
            sources = size_sources(prepared)
        except UnsupportedOp as unsupported:
            found.unsupported += unsupported.problems
            return
        sizes = {source.symbol: size_hint(source.read(example_inputs)) for source in sources}
        operators, problems = survey(prepared, sizes)
        found.operators += operators
        found.unsupported += problems

    capture(model, args, kwargs, collect, training=training)
    return found
