"""Reading XLA's HLO text: computations, instructions, and what they carry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_COMPUTATION = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*-> .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%([\w.\-]+) = (.*)")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
OPERATION_NAME = re.compile(r'\bop_name="((?:[^"\\]|\\.)*)"')
# A name that begins with the place it comes from, as lowering writes it, with the module where there is one:
# /project/model.py:7/self.layers.0/aten.mm.default/...
_PLACE = re.compile(r"(.+?):(\d+)(?:/(self(?:\.\w+)*)(?=/))?(?:/([^/]*)|$)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_PLAUSIBLE = 2**62
# What Pallas notes for profilers, the one attribute that XLA prints on several lines.
_KERNEL_METADATA = re.compile(r"kernel_metadata=\{\n.*?\n\}", re.DOTALL)
_BITS = re.compile(r"[a-z]+(\d+)")


@dataclass(frozen=True)
class Array:
    """One array of a shape: bytes as its elements take without padding, and whether it lies in the main memory.

    A TPU keeps arrays in VMEM and others of its small memories too, which the layout says as a memory space. Scalars
    count as in no memory.
    """

    elements: int
    nbytes: int
    in_main_memory: bool


@dataclass(frozen=True)
class Origin:
    """An operation of the user's: its file and line, its module as `self.layers.0`, its name as `aten.mm.default`."""

    place: tuple[str, int]
    module: str
    operator: str


@dataclass(frozen=True)
class Instruction:
    """One HLO instruction. shape, literal, attributes and config are text as XLA prints it."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    config: str

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of the result, one for each leaf of a tuple."""
        return tuple(_array(*match) for match in _ARRAY.findall(self.shape))

    @property
    def cycles(self) -> int | None:
        """libtpu's estimate of what it takes, or None where libtpu gives none."""
        match = _CYCLES.search(self.config)
        # Seen in libtpu 0.0.52 for a scatter on a SparseCore: the largest number there is.
        return None if match is None or int(match[1]) > _PLAUSIBLE else int(match[1])

    @cached_property
    def origin(self) -> Origin | None:
        """The operation of the user's that it computes; None where its name does not tell."""
        name = OPERATION_NAME.search(self.attributes)
        return None if name is None else origin_in(unescaped(name[1]))

    @property
    def source_line(self) -> tuple[str, int] | None:
        """The user's file and line that it computes; None where its name does not tell."""
        return None if self.origin is None else self.origin.place

    def attribute(self, key: str) -> str:
        """Return a plain attribute, such as the `index` of a get-tuple-element; the empty string if it is absent."""
        match = re.search(rf"\b{key}=([^,\s]+)", self.attributes)
        return "" if match is None else match[1].strip('"')

    def called(self, *keys: str) -> tuple[str, ...]:
        """Return the names of the computations under some attributes, such as `body`, in the order of `keys`."""
        found: list[str] = []
        for key in keys:
            if (match := re.search(rf"\b{key}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)) is not None:
                found += _NAME.findall(match[1])
        return tuple(found)


@dataclass(frozen=True)
class Computation:
    """A list of instructions in the order of their execution; the root gives the result."""

    name: str
    instructions: dict[str, Instruction]
    root: Instruction

    @cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """Its parameters by number."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return tuple(sorted(found, key=lambda parameter: int(parameter.literal)))

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that take each value."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found.setdefault(operand, []).append(instruction)
        return found


@dataclass(frozen=True)
class Module:
    """An HLO module."""

    computations: dict[str, Computation]
    entry: Computation


def origin_in(name: str) -> Origin | None:
    """Read the operation of the user's in a name that begins with one; None for other names."""
    match = _PLACE.match(name)
    return None if match is None else Origin((match[1], int(match[2])), match[3] or "", match[4] or "")


def unescaped(text: str) -> str:
    """Return the text that XLA prints so within quotes."""
    return re.sub(r"\\(.)", r"\1", text)


def escaped(text: str) -> str:
    """Return a text as XLA prints it within quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def parse_hlo(text: str) -> Module:
    """Parse the text of a module as XLA prints it. Raises ValueError for text without an entry computation."""
    computations: dict[str, Computation] = {}
    entry: Computation | None = None
    name, is_entry = "", False
    instructions: dict[str, Instruction] = {}
    root: Instruction | None = None
    for line in _KERNEL_METADATA.sub("kernel_metadata={}", text).splitlines():
        if (head := _COMPUTATION.match(line)) is not None:
            name, is_entry, instructions, root = head[2], bool(head[1]), {}, None
        elif line.startswith("}") and root is not None:
            computations[name] = Computation(name, instructions, root)
            entry = computations[name] if is_entry else entry
            root = None
        elif (match := _INSTRUCTION.match(line)) is not None:
            instruction = _parse_instruction(match[2], match[3])
            instructions[instruction.name] = instruction
            root = instruction if match[1] else root
    if entry is None:
        raise ValueError("the text holds no entry computation, so it is no HLO module")
    return Module(computations, entry)


def _parse_instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = _OPCODE.match(text, end)
    assert opcode is not None, text
    opening = opcode.end() - 1
    closing = _closing(text, opening)
    inside = text[opening + 1 : closing]
    attributes, _, config = text[closing + 1 :].partition(", backend_config=")
    operands = () if opcode[1] in ("constant", "parameter") else tuple(_NAME.findall(inside))
    return Instruction(name, opcode[1], text[:end], operands, inside, attributes, config)


def _closing(text: str, opening: int) -> int:
    """Find the position where the parenthesis at `opening` closes; the text's end if it does not close."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return len(text)


def _array(dtype: str, sizes: str, layout: str) -> Array:
    elements = 1
    for size in filter(None, sizes.split(",")):
        elements *= int(size.lstrip("<="))
    # XLA names complex numbers by both of their halves: c64 has two of 32 bits.
    bits = 8 if dtype == "pred" else int(match[1]) if (match := _BITS.match(dtype)) is not None else 0
    space = _MEMORY_SPACE.search(layout)
    in_main_memory = elements > 1 and (space is None or space[1] == "0")
    return Array(elements, (elements * bits + 7) // 8, in_main_memory)
