"""The search for the first operator whose results are wrong, given eager's values of its operands.

A stretch of operators that is wrong is cut in two, and each half runs on eager's values, so that errors do not
accumulate over halves. As stretches get shorter, all that is compiled is about two or three times the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.fx import Node

from tpu_dynamo_lowering import Operator

from .choices import chose_equally
from .comparing import Comparison
from .reference import Reference
from .stretches import Outcome, Stretches

Kind = Literal["operator", "together"]


@dataclass(frozen=True)
class Found:
    """The operators at fault: one, or several that are wrong together and right in parts.

    values: eager's values of what they read. node: the first result that is wrong, compared as `comparison` says.
    """

    kind: Kind
    operators: tuple[Operator, ...]
    values: dict[Node, Any]
    node: Node
    comparison: Comparison


def find_fault(
    stretches: Stretches, operators: Sequence[Operator], values: Mapping[Node, Any], outcome: Outcome
) -> Found | None:
    """Return the first fault in a stretch whose results are wrong; None where only rounding was amplified, or ties
    were resolved in another way.

    values: eager's, of what the stretch reads. outcome: the stretch's. Raises what `Stretches.outcome` raises.
    """
    if len(operators) == 1:
        if chose_equally(operators[0], values, outcome.ours, outcome.eager):
            return None
        return _found("operator", operators, values, outcome)
    middle = len(operators) // 2
    first, second = operators[:middle], operators[middle:]
    early = stretches.outcome(first, values)
    if early.wrong and (found := find_fault(stretches, first, values, early)) is not None:
        return found
    between = {**values, **early.eager}
    late = stretches.outcome(second, between)
    if late.wrong:
        return find_fault(stretches, second, between, late)
    if early.wrong or _is_amplified(stretches, first, second, values):
        return None
    return _found("together", operators, values, outcome)


def _found(kind: Kind, operators: Sequence[Operator], values: Mapping[Node, Any], outcome: Outcome) -> Found:
    nodes = [node for each in operators for node in each.nodes]
    wanted = {*nodes, *(operand for node in nodes for operand in node.all_input_nodes)}
    kept = {node: value for node, value in values.items() if node in wanted}
    first, comparison = next(iter(outcome.wrong.items()))
    return Found(kind, tuple(operators), kept, first, comparison)


def _is_amplified(
    stretches: Stretches, first: Sequence[Operator], second: Sequence[Operator], values: Mapping[Node, Any]
) -> bool:
    """Tell whether eager's second half makes, of ours of the first half, what ours makes of both halves.

    Then both halves are right, and the second makes much of a small difference, as where it decides between two values
    that are almost equal.
    """
    whole = stretches.whole
    cut, outputs = whole.read_outside(first), whole.read_outside([*first, *second])
    ours = stretches.ours([*first, *second], values, list(dict.fromkeys([*cut, *outputs])))
    mixed_values = {**values, **{node: ours[node] for node in cut}}
    late = [node for node in outputs if node not in set(cut)]
    mixed = Reference(whole).run(second, mixed_values, late)
    return not stretches.compare_values(second, mixed_values, {node: ours[node] for node in late}, mixed)
