"""The peak of a program's memory explained: the values that are alive at it, by the user's source line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .buffer_assignment import AssignedValue, Block, blocks_of
from .compilation import ProgramMemory
from .hlo import Computation, Instruction, Module, parse_hlo
from .hlo_dump import Assignment
from .hlo_places import SourceLine, place_of
from .notebook_tables import html_table

_DTYPE_AND_SIZES = re.compile(r"([a-z]\w*)\[([\d,<=]*)\]")
# The operator in a name as lowering writes it: /project/model.py:7/self.layers.0/aten.mm.default/..., some without the
# module.
_OPERATOR = re.compile(r'\bop_name="(?:[^"\\]|\\.)*?:\d+/(?:self[^"/]*/)?([^"/]+)')


@dataclass(frozen=True)
class HeldValue:
    """A value that is alive at the peak.

    what: `argument`, `output`, `constant`, `temporary`, `code`, or `unused` for gaps between values. nbytes: with the
    padding that the layout adds; padding: how much of them that is. name: for people. owner: whose it is: `parameters`,
    `optimizer state`, `inputs`, `gradients`, `activations` and so on, where the front door knows, else as `what`.
    parameter, result: the number of the program's argument or result. instruction: HLO's.
    """

    what: str
    nbytes: int
    padding: int = 0
    dtype: str = ""
    shape: tuple[int, ...] = ()
    name: str = ""
    owner: str = ""
    operator: str = ""
    file: str | None = None
    line: int | None = None
    parameter: int | None = None
    result: int | None = None
    instruction: str = ""

    @property
    def place(self) -> SourceLine | None:
        """The user's file and line that computes it; for an argument, that uses it first."""
        return None if self.file is None or self.line is None else (self.file, self.line)


@dataclass(frozen=True)
class Peak:
    """The memory of a program when most is in use, by XLA's own buffer assignment.

    figure: the bytes that XLA says the program needs, as in ProgramMemory.total. values: those alive, largest first;
    they add up to it. moment: the line that the program is at, None where it is not known.
    """

    figure: int
    values: tuple[HeldValue, ...] = field(repr=False)
    moment: SourceLine | None = None

    @property
    def explained(self) -> float:
        """The share of XLA's figure that belongs to named values."""
        named = sum(value.nbytes for value in self.values if value.what != "unused")
        return min(1.0, named / self.figure) if self.figure else 1.0

    def by_owner(self) -> dict[str, int]:
        """Return the bytes by owner, the largest first."""
        counted: Counter[str] = Counter()
        for value in self.values:
            counted[value.owner or value.what] += value.nbytes
        return dict(counted.most_common())

    def by_line(self) -> dict[SourceLine | None, int]:
        """Return the bytes by source line, the largest first; None stands for what is not of any line."""
        counted: Counter[SourceLine | None] = Counter()
        for value in self.values:
            counted[value.place] += value.nbytes
        return dict(counted.most_common())

    def as_dict(self) -> dict[str, Any]:
        """Return the peak as plain data, ready for JSON."""
        return {
            "figure": self.figure,
            "explained": self.explained,
            "moment": None if self.moment is None else {"file": self.moment[0], "line": self.moment[1]},
            "owners": self.by_owner(),
            "lines": [
                {"file": place and place[0], "line": place and place[1], "bytes": nbytes}
                for place, nbytes in self.by_line().items()
            ],
            "values": [asdict(value) for value in self.values],
        }

    def _repr_html_(self) -> str:
        """Return the largest values for a notebook."""
        rows = [(v.name, v.owner or v.what, _where(v.place), v.nbytes) for v in self.values[:20]]
        return html_table(("value", "owner", "line", "bytes"), [*rows, ("all", "", "", self.figure)])


def peak_of(assignment: Assignment, memory: ProgramMemory) -> Peak | None:
    """Explain the peak of a program; None where XLA said nothing of its buffers."""
    blocks = blocks_of(assignment.proto)
    if not blocks:
        return None
    module = parse_hlo(assignment.hlo)
    held = [value for block in blocks for value in _values_of(block, module)]
    if memory.code:
        held.append(HeldValue("code", memory.code, name="the program's code"))
    largest = max((b for b in blocks if b.kind == "temporary"), key=lambda block: block.nbytes, default=None)
    return Peak(
        memory.total,
        tuple(sorted(held, key=lambda value: -value.nbytes)),
        None if largest is None else _moment(largest, module),
    )


def _values_of(block: Block, module: Module) -> list[HeldValue]:
    found = [_held(block, value, module) for value in block.values]
    gap = block.nbytes - sum(value.nbytes for value in block.values)
    if gap > 0:
        found.append(HeldValue("unused", gap, name="gaps between values"))
    return found


def _held(block: Block, assigned: AssignedValue, module: Module) -> HeldValue:
    held = HeldValue(block.kind, assigned.nbytes, parameter=block.parameter, instruction=assigned.instruction)
    found = _instruction_of(assigned, module)
    if found is None:
        return replace(held, name=assigned.instruction)
    computation, instruction = found
    place = _first_use(module, computation, instruction) if block.kind == "argument" else None
    place = place or place_of(module, computation, instruction)
    dtype, shape, unpadded = _array_of(instruction, assigned.index)
    operator = _OPERATOR.search(instruction.attributes)
    named = operator[1] if operator is not None and block.kind != "argument" else instruction.opcode
    return replace(
        held,
        padding=max(0, assigned.nbytes - unpadded) if dtype else 0,
        dtype=dtype,
        shape=shape,
        name=f"argument {block.parameter}" if block.kind == "argument" else named,
        operator="" if block.kind == "argument" else named,
        file=place and place[0],
        line=place and place[1],
        result=_result_of(module, assigned) if block.kind == "output" else None,
    )


def _instruction_of(assigned: AssignedValue, module: Module) -> tuple[Computation, Instruction] | None:
    computation = module.computations.get(assigned.computation)
    instruction = None if computation is None else computation.instructions.get(assigned.instruction)
    return None if computation is None or instruction is None else (computation, instruction)


def _first_use(module: Module, computation: Computation, parameter: Instruction) -> SourceLine | None:
    """Return the line of the first instruction that takes a parameter, whose own line is that of its function."""
    users = computation.users.get(parameter.name, ())
    return next((user.source_line or place_of(module, computation, user) for user in users), None)


def _array_of(instruction: Instruction, index: tuple[int, ...]) -> tuple[str, tuple[int, ...], int]:
    """Return dtype, sizes and bytes without padding of a part of a result; without dtype where it is no array."""
    found = _DTYPE_AND_SIZES.findall(instruction.shape)
    at = index[0] if len(index) == 1 else 0
    if len(index) > 1 or at >= len(found) or (not index and len(found) > 1):
        return "", (), 0
    dtype, sizes = found[at]
    return dtype, tuple(int(n.lstrip("<=")) for n in sizes.split(",") if n), instruction.arrays[at].nbytes


def _result_of(module: Module, assigned: AssignedValue) -> int | None:
    """Return the number of the program's result that a value is; None where it only lies in the result's memory."""
    root = module.entry.root
    if assigned.computation != module.entry.name:
        return None
    if root.opcode != "tuple":
        return 0 if root.name == assigned.instruction else None
    for number, operand in enumerate(root.operands):
        reached = operand
        while reached != assigned.instruction:
            step = module.entry.instructions[reached]
            if step.opcode not in ("bitcast", "get-tuple-element") or not step.operands:
                break
            reached = step.operands[0]
        if reached == assigned.instruction:
            return number
    return None


def _moment(block: Block, module: Module) -> SourceLine | None:
    """Return the line of the last value of a block to be computed, when all of them are there."""
    order = {name: i for i, name in enumerate(module.entry.instructions)}
    own = [v for v in block.values if v.computation == module.entry.name and v.instruction in order]
    if not own:
        return None
    last = max(own, key=lambda value: order[value.instruction])
    return place_of(module, module.entry, module.entry.instructions[last.instruction])


def _where(place: SourceLine | None) -> str:
    return "" if place is None else f"{place[0]}:{place[1]}"
