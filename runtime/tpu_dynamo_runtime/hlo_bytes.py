"""Bytes of the device's main memory that an HLO instruction reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from .hlo import Array, Computation, Instruction, Module

# They give names to memory, or hold others that are counted by themselves.
_FREE = {
    "add-dependency", "after-all", "async-start", "bitcast", "call", "conditional", "constant", "domain",
    "get-tuple-element", "opt-barrier", "parameter", "partition-id", "replica-id", "tuple", "while",
}  # fmt: skip
_SLICES = ("dynamic-slice", "gather", "slice")


def bytes_accessed(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Count the bytes that an instruction reads from and writes to main memory, as far as its shapes tell.

    Of an operand of which it takes slices or rows, those; of one that it updates in place, the update. Arrays in
    a TPU's small memories cost nothing here, the copies from and to them do. Padding is not counted.
    """
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    if opcode.endswith("-start"):
        return _started(computation, instruction)
    body = None
    if opcode == "fusion":
        (body,) = (module.computations[name] for name in instruction.called("calls"))
    read = 0
    for position, operand in enumerate(instruction.operands):
        if all(not array.in_main_memory for array in computation.instructions[operand].arrays):
            continue
        if body is not None:
            parameter = body.parameters[position]
            read += _read_of(module, body, parameter, partial(_all, parameter))
        else:
            read += _read_by(instruction, computation.instructions[operand], position)
    return read + _written(computation, instruction, body)


def _main(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays if array.in_main_memory)


def _all(instruction: Instruction) -> int:
    return sum(array.nbytes for array in instruction.arrays)


def _started(computation: Computation, instruction: Instruction) -> int:
    """Count the bytes of an instruction that starts a transfer, by which of its ends lie in main memory.

    A copy's result is (destination, source, flag). Others read and write as many bytes as their result has.
    """
    if instruction.opcode == "copy-start":
        return _main(instruction.arrays[:2])
    *_, result = [array for array in instruction.arrays if array.elements > 1] or [Array(0, 0, True)]
    operand = computation.instructions[instruction.operands[0]] if instruction.operands else instruction
    return result.nbytes * (_main(operand.arrays) > 0) + result.nbytes * result.in_main_memory


def _read_by(user: Instruction, operand: Instruction, position: int) -> int:
    """Count the bytes of an operand that one instruction reads."""
    if user.opcode in _SLICES and position == 0:
        return min(_all(user), _all(operand))
    if user.opcode in ("dynamic-update-slice", "scatter") and position == 0:
        return 0
    return _all(operand)


def _read_of(module: Module, body: Computation, value: Instruction, beyond: Callable[[], int]) -> int:
    """Count the bytes that a fusion's body reads of a value inside it; at most all of the value's bytes.

    beyond: what is read of the value where the body hands it out.
    """
    total = beyond() if value is body.root else 0
    for user in body.users.get(value.name, ()):
        places = [position for position, operand in enumerate(user.operands) if operand == value.name]
        if user.opcode == "bitcast":
            total += _read_of(module, body, user, beyond)
        elif user.opcode == "fusion":
            (inner,) = (module.computations[name] for name in user.called("calls"))
            handed_out = partial(_read_of, module, body, user, beyond)
            total += sum(_read_of(module, inner, inner.parameters[p], handed_out) for p in places)
        else:
            total += sum(_read_by(user, value, p) for p in places)
    return min(total, _all(value))


def _written(computation: Computation, instruction: Instruction, body: Computation | None) -> int:
    roots = [instruction] if body is None else [body.root]
    within = computation if body is None else body
    if body is not None and body.root.opcode == "tuple":
        roots = [body.instructions[name] for name in body.root.operands]
    if len(roots) != len(instruction.arrays):
        return _main(instruction.arrays)
    written = 0
    for root, array in zip(roots, instruction.arrays, strict=True):
        while root.opcode == "bitcast":
            root = within.instructions[root.operands[0]]
        update = _update(root)
        if array.in_main_memory:
            written += array.nbytes if update is None else _all(within.instructions[update])
    return written


def _update(instruction: Instruction) -> str | None:
    """Return the operand that an instruction writes into another one; None if it makes a whole new array."""
    if instruction.opcode == "dynamic-update-slice":
        return instruction.operands[1]
    return instruction.operands[-1] if instruction.opcode == "scatter" else None
