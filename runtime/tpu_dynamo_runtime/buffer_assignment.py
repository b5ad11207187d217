"""XLA's buffer assignment: the blocks of memory of a program, and the values that lie in each when it is fullest.

Source: `HloProto` and `BufferAssignmentProto` of XLA's xla/service/hlo.proto; the peaks are `peak_buffers` of
xla/service/buffer_assignment.h, which the message holds from jaxlib 0.10 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .protobuf_fields import Field, field_of_bytes, fields_of, numbers_of


@dataclass(frozen=True)
class AssignedValue:
    """One value in a block: the HLO instruction that defines it, and which part of its result. nbytes: with padding."""

    computation: str
    instruction: str
    index: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Block:
    """One allocation. kind: `argument`, `output`, `constant` or `temporary`; an output in an argument is the argument.

    parameter: the number of the argument, None for others. values: those that are alive when it is fullest.
    """

    kind: str
    nbytes: int
    parameter: int | None
    values: tuple[AssignedValue, ...]


def hlo_proto(module: bytes, assignment: bytes) -> bytes:
    """Return the HloProto of a module and its buffer assignment, both serialised."""
    return field_of_bytes(1, module) + field_of_bytes(3, assignment)


def blocks_of(proto: bytes) -> list[Block]:
    """Return the blocks of main memory in an HloProto, which has a buffer assignment; empty where it has none.

    Left out are those of threads of the host, and those in a TPU's small memories.
    """
    parts = _messages(proto)
    if 3 not in parts or 1 not in parts:
        return []
    assignment = _messages(_bytes(parts[3][0]))
    named = _instructions(_bytes(parts[1][0]))
    values = dict(_values(assignment.get(1, []), named))
    peaks = {}
    for each in assignment.get(5, []):
        peak = _messages(_bytes(each))
        peaks[_number(peak, 1)] = [n for part in peak.get(2, []) for n in numbers_of(part)]
    blocks = []
    for each in assignment.get(3, []):
        block = _messages(_bytes(each))
        if _number(block, 3) or _number(block, 8):
            continue
        alive = peaks.get(_number(block, 1)) or _largest(block)
        kind = "temporary"
        for field, name in ((12, "constant"), (7, "output"), (5, "argument")):
            kind = name if _number(block, field) else kind
        found = tuple(values[n] for n in alive if n in values)
        blocks.append(Block(kind, _number(block, 2), _number(block, 6) if kind == "argument" else None, found))
    return blocks


def _largest(block: dict[int, list[Field]]) -> list[int]:
    """Return the largest values of a block that do not overlap, where the message does not say which are alive."""
    assigned = [_messages(_bytes(each)) for each in block.get(9, [])]
    chosen: list[tuple[int, int, int]] = []
    for each in sorted(assigned, key=lambda each: -_number(each, 3)):
        start, end = _number(each, 2), _number(each, 2) + _number(each, 3)
        if all(end <= s or start >= e for s, e, _ in chosen):
            chosen.append((start, end, _number(each, 1)))
    return [number for _, _, number in chosen]


def _values(messages: list[Field], named: dict[int, tuple[str, str]]) -> Iterator[tuple[int, AssignedValue]]:
    for each in messages:
        value = _messages(_bytes(each))
        place = _messages(_bytes(value[3][0])) if 3 in value else {}
        computation, instruction = named.get(_number(place, 4), ("", ""))
        index = tuple(n for part in place.get(3, []) for n in numbers_of(part))
        yield _number(value, 1), AssignedValue(computation, instruction, index, _number(value, 2))


def _instructions(module: bytes) -> dict[int, tuple[str, str]]:
    """Return the names of a module's computations and instructions by the ids of the instructions."""
    named: dict[int, tuple[str, str]] = {}
    for number, computation in fields_of(module):
        if number != 3:
            continue
        name, own = "", 0
        local: dict[int, str] = {}
        for field, value in fields_of(_bytes(computation)):
            if field == 1:
                name = _bytes(value).decode()
            elif field == 5:
                own = value if isinstance(value, int) else 0
            elif field == 2:
                identity, instruction = 0, ""
                for part, inner in fields_of(_bytes(value)):
                    if part == 1:
                        instruction = _bytes(inner).decode()
                    elif part == 35 and isinstance(inner, int):
                        identity = inner
                local[identity] = instruction
        # Ids are those of the whole module, or, as older releases write them, of the computation.
        named.update({(own << 32 | i) if i < 1 << 32 else i: (name, each) for i, each in local.items()})
    return named


def _messages(message: bytes) -> dict[int, list[Field]]:
    found: dict[int, list[Field]] = {}
    for number, value in fields_of(message):
        found.setdefault(number, []).append(value)
    return found


def _number(message: dict[int, list[Field]], field: int) -> int:
    value = message.get(field, [0])[-1]
    return value if isinstance(value, int) else 0


def _bytes(value: Field) -> bytes:
    assert isinstance(value, bytes)
    return value
