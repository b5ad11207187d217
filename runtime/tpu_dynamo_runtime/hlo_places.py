"""The user's source lines that HLO instructions compute, also those of instructions that XLA adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from .hlo import Computation, Instruction, Module

# How many steps an instruction may be from the one that it was made for.
_FAR = 6

SourceLine = tuple[str, int]


def place_of(module: Module, computation: Computation, instruction: Instruction) -> SourceLine | None:
    """Find the source line of an instruction; else of one inside it, else of a neighbour that it serves."""
    if instruction.source_line is not None:
        return instruction.source_line
    inside = Counter(
        inner.source_line
        for name in instruction.called("calls")
        for inner in module.computations[name].instructions.values()
        if inner.source_line is not None
    )
    if inside:
        return inside.most_common(1)[0][0]
    return _nearest(computation, instruction, _users) or _nearest(computation, instruction, _operands)


def _users(computation: Computation, instruction: Instruction) -> Iterable[Instruction]:
    return computation.users.get(instruction.name, ())


def _operands(computation: Computation, instruction: Instruction) -> Iterable[Instruction]:
    return (computation.instructions[name] for name in instruction.operands)


def _nearest(
    computation: Computation,
    instruction: Instruction,
    neighbours: Callable[[Computation, Instruction], Iterable[Instruction]],
) -> SourceLine | None:
    """Find the source line of the nearest neighbour that has one: XLA's copies and prefetches have none."""
    reached = [instruction]
    for _ in range(_FAR):
        reached = [n for i in reached for n in neighbours(computation, i) if n.opcode != "tuple"]
        places = [i.source_line for i in reached if i.source_line is not None]
        if places:
            return places[0]
    return None
