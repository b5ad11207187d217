"""Trip counts of HLO loops, found by running the loops' counters and nothing else of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from .hlo import Computation, Instruction, Module

# Beyond, the length of a loop counts as unknown: this many steps take a second.
_MOST_STEPS = 10_000

_BINARY: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "and": operator.and_,
    "maximum": max,
    "minimum": min,
    "multiply": operator.mul,
    "or": operator.or_,
    "subtract": operator.sub,
    "xor": operator.xor,
}
_DIRECTIONS: dict[str, Callable[[int, int], bool]] = {
    "EQ": operator.eq,
    "GE": operator.ge,
    "GT": operator.gt,
    "LE": operator.le,
    "LT": operator.lt,
    "NE": operator.ne,
}
_TRANSPARENT = ("bitcast", "bitcast-convert", "convert", "copy", "reshape")
_SCALAR = re.compile(r"([su]|pred)(\d*)\[\]")


def trip_count(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Count how often the body of a `while` runs; None where that depends on more than integers in the text.

    libtpu leaves out XLA's `known_trip_count`, and splits the 64-bit counters of JAX's loops into two of 32 bits.
    """
    (condition,) = (module.computations[name] for name in loop.called("condition"))
    (body,) = (module.computations[name] for name in loop.called("body"))
    try:
        state = _State(lambda index: _Evaluation(module, caller, None).element(loop.operands[0], index))
        for steps in range(_MOST_STEPS):
            if not _Evaluation(module, condition, state).value(condition.root.name):
                return steps
            state = state.after(_Evaluation(module, body, state), body.root.name)
    except _UnknownValueError:
        pass
    return None


class _UnknownValueError(Exception):
    """A value that does not follow from integers in the text."""


class _State:
    """The elements of a loop's tuple before one step, each found when it is first asked for."""

    def __init__(self, find: Callable[[int], int]):
        self._find = find
        self._known: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        if index not in self._known:
            self._known[index] = self._find(index)
        return self._known[index]

    def after(self, body: _Evaluation, root: str) -> _State:
        """Return the elements after the step. Those that the condition asked for are computed now: no chain grows."""
        following = _State(lambda index: body.element(root, index))
        for index in list(self._known):
            following[index]
        return following


class _Evaluation:
    """One evaluation of a computation, of which only integers are computed, when they are asked for.

    given: the elements of its one parameter, a tuple, or its parameters by number; None where they are not known.
    """

    def __init__(self, module: Module, computation: Computation, given: _State | None):
        self._module = module
        self._computation = computation
        self._given = given
        self._values: dict[str, int] = {}

    def value(self, name: str) -> int:
        """Compute a scalar. Raises _UnknownValueError."""
        if name not in self._values:
            self._values[name] = self._compute(self._computation.instructions[name])
        return self._values[name]

    def element(self, name: str, index: int) -> int:
        """Compute one scalar of a tuple. Raises _UnknownValueError."""
        instruction = self._computation.instructions[name]
        if instruction.opcode == "parameter":
            return self._of_given(index)
        if instruction.opcode == "tuple":
            return self.value(instruction.operands[index])
        if instruction.opcode == "fusion":
            inside = self._inside(instruction)
            return inside.element(inside._computation.root.name, index)
        raise _UnknownValueError

    def _of_given(self, index: int) -> int:
        if self._given is None:
            raise _UnknownValueError
        return self._given[index]

    def _inside(self, fusion: Instruction) -> _Evaluation:
        (name,) = fusion.called("calls")
        return _Evaluation(
            self._module,
            self._module.computations[name],
            _State(lambda position: self.value(fusion.operands[position])),
        )

    def _compute(self, instruction: Instruction) -> int:
        opcode, operands = instruction.opcode, instruction.operands
        if (scalar := _SCALAR.match(instruction.shape)) is None:
            raise _UnknownValueError
        if opcode == "constant":
            literal = {"true": "1", "false": "0"}.get(instruction.literal, instruction.literal)
            return _wrapped(int(literal), scalar)
        if opcode == "parameter":
            return self._of_given(int(instruction.literal))
        if opcode == "get-tuple-element":
            return self.element(operands[0], int(instruction.attribute("index")))
        if opcode == "fusion":
            inside = self._inside(instruction)
            return inside.value(inside._computation.root.name)
        if opcode == "select":
            return self.value(operands[1] if self.value(operands[0]) else operands[2])
        if opcode == "not":
            return _wrapped(~self.value(operands[0]), scalar)
        if opcode in _TRANSPARENT:
            return _wrapped(self.value(operands[0]), scalar)
        if opcode == "compare":
            return int(_DIRECTIONS[instruction.attribute("direction")](*map(self.value, operands)))
        if opcode in _BINARY:
            return _wrapped(_BINARY[opcode](*map(self.value, operands)), scalar)
        raise _UnknownValueError


def _wrapped(value: int, scalar: re.Match[str]) -> int:
    """Wrap a number around as its integer type does. scalar: the match of _SCALAR for the type."""
    if scalar[1] == "pred":
        return value & 1
    bits = int(scalar[2])
    value &= (1 << bits) - 1
    return value - (1 << bits) if scalar[1] == "s" and value >> (bits - 1) else value
