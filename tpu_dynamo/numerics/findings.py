"""The findings of a check as plain data: the results of each graph, the operator at fault, where nan comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tpu_dynamo_lowering import SourceLine

from .comparing import Comparison


@dataclass(frozen=True)
class CheckedResult:
    """One result of a graph. name: as `output 0`, `gradient of L['self'].weight` or `state weight.exp_avg`."""

    name: str
    line: SourceLine | None
    comparison: Comparison


@dataclass(frozen=True)
class Fault:
    """The first place where a graph's results are wrong.

    kind: `operator` for one operator; `together` for operators that are right one by one, or in halves, and wrong when
    they are compiled together; `around` where the graph is right when it is compiled by itself, and what runs around it
    (padding, moving tensors) is not. operators: their names, in order. line: the user's line of the first.
    comparison: of the first result of theirs that is wrong, given eager's values of what they read.
    """

    kind: Literal["operator", "together", "around"]
    operators: tuple[str, ...]
    line: SourceLine | None
    comparison: Comparison

    def __str__(self) -> str:
        found = self.comparison
        names = ", ".join(self.operators[:3]) + (
            f" and {len(self.operators) - 3} more" if len(self.operators) > 3 else ""
        )
        told = {
            "operator": names,
            "together": f"operators that are right by themselves, and wrong together: {names}",
            "around": "what runs around the graph, whose operators are right",
        }[self.kind]
        return f"{told}: {describe(found)}" + (f"\n  at {self.line}" if self.line else "")


@dataclass(frozen=True)
class NonFinite:
    """The first operator that makes nan or an infinity of finite operands. where: in eager's results, or in both."""

    where: Literal["eager", "both"]
    operator: str
    line: SourceLine | None

    def __str__(self) -> str:
        place = "eager and ours" if self.where == "both" else "eager alone"
        return f"nan or infinity first from {self.operator}, in {place}" + (f"\n  at {self.line}" if self.line else "")


@dataclass(frozen=True)
class CheckedGraph:
    """One call of a graph beside eager's operators.

    described: the graph for people. operators: how many it has. unchecked: why it could not be compared, None where it
    was. amplified: whether results differ by more than their bounds though no operator is at fault: rounding decided
    between almost equal values, equal ones are in another order, or operators make much of small differences.
    """

    name: str
    role: str
    described: str
    operators: int
    results: tuple[CheckedResult, ...] = ()
    fault: Fault | None = None
    nonfinite: NonFinite | None = None
    amplified: bool = False
    unchecked: str | None = None
    # Writes the fault's operators and what they read as a script.
    write_repro: Callable[[Path], Path] | None = field(default=None, repr=False, compare=False)

    @property
    def right(self) -> bool:
        """True if no operator is at fault."""
        return self.fault is None

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as plain data, ready for JSON."""
        found = asdict(CheckedGraph(**{**self.__dict__, "write_repro": None}))
        del found["write_repro"]
        return {**found, "right": self.right, "results": [_result_as_dict(each) for each in self.results]}


def _result_as_dict(result: CheckedResult) -> dict[str, Any]:
    return {**asdict(result), "within": result.comparison.within}


def describe(found: Comparison) -> str:
    """Return a comparison in words, as `float32 [8, 16]: off by 0.01 of 1.2, allowed are 4.6e-06`."""
    what = f"{found.dtype} {list(found.shape)}"
    at = ""
    if found.at is not None:
        index, ours, eager = found.at
        at = f"; at {list(index)} ours is {_number(ours)}, eager's {_number(eager)}"
    if found.nonfinite:
        return f"{what}: {found.nonfinite:,} elements are nan or infinite and should not be{at}"
    if found.differing:
        return f"{what}: {found.differing:,} elements differ{at}"
    own = "" if found.own_error is None else f", eager's own error is {found.own_error:.2g}"
    allowed = f"allowed are {found.bound:.2g}{own}"
    return f"{what}: off by {found.error:.2g} at a magnitude of {found.magnitude:.2g}, {allowed}{at}"


def _number(value: float | int | str) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
