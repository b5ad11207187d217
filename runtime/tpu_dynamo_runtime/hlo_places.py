"""The user's source lines that HLO instructions compute, also those of instructions that XLA adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from .hlo import Computation, Instruction, Module, Origin

# How many steps an instruction may be from the one that it was made for.
_FAR = 6

SourceLine = tuple[str, int]


def place_of(module: Module, computation: Computation, instruction: Instruction) -> SourceLine | None:
    """Find the source line of an instruction; else of one inside it, else of a neighbour that it serves."""
    found = origin_of(module, computation, instruction)
    return None if found is None else found.place


def origin_of(module: Module, computation: Computation, instruction: Instruction) -> Origin | None:
    """Find the operation of an instruction as `place_of` finds its line."""
    if instruction.origin is not None:
        return instruction.origin
    inside = [
        inner.origin
        for name in instruction.called("calls")
        for inner in module.computations[name].instructions.values()
        if inner.origin is not None
    ]
    if inside:
        (place, _), *_ = Counter(origin.place for origin in inside).most_common(1)
        return next(origin for origin in inside if origin.place == place)
    return _nearest(computation, instruction, _users) or _nearest(computation, instruction, _operands)


def _users(computation: Computation, instruction: Instruction) -> Iterable[Instruction]:
    return computation.users.get(instruction.name, ())


def _operands(computation: Computation, instruction: Instruction) -> Iterable[Instruction]:
    return (computation.instructions[name] for name in instruction.operands)


def _nearest(
    computation: Computation,
    instruction: Instruction,
    neighbours: Callable[[Computation, Instruction], Iterable[Instruction]],
) -> Origin | None:
    """Find the operation of the nearest neighbour that has one: XLA's copies and prefetches have none."""
    reached = [instruction]
    for _ in range(_FAR):
        reached = [n for i in reached for n in neighbours(computation, i) if n.opcode != "tuple"]
        origins = [i.origin for i in reached if i.origin is not None]
        if origins:
            return origins[0]
    return None
