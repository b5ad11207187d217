"""The products of a compile besides something to run: bytes to keep, HLO to read, memory and flops."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .chips import Chip
from .hlo_dump import Assignment
from .renaming import Renaming
from .targets import page_of

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# XLA's words, from "CompileTimeHbmOom" messages: the first is said early, the second after buffers are assigned.
_TOO_LARGE = (
    re.compile(r"total memory required for HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM"),
    re.compile(r"in memory space hbm\. Used ([\d.]+)([KMGT]?) of"),
)


@dataclass(frozen=True)
class ProgramMemory:
    """Bytes of device memory that a program needs.

    arguments, outputs: of `@main`, laid out as the chip wants them. aliased: bytes of outputs that lie in arguments.
    temporaries: the most that is alive in between. code: the program itself. total: of all of it.
    available: what a program may use on the device; None where that is not known.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    total: int
    available: int | None = None

    @property
    def fits(self) -> bool | None:
        """True if the program fits the device's memory; None where the device does not say how much it has."""
        return None if self.available is None else self.total <= self.available


@dataclass(frozen=True)
class Compilation:
    """One program after XLA compiled it.

    executable: bytes that load on a machine with the device; empty where a plugin compiled it to be explained. hlo:
    optimised HLO as text. flops: as XLA counts them, loops once. chip: the TPU that it was compiled for; None for other
    platforms. assignment: where its values lie, None where that was not asked for and does not come by itself.
    """

    executable: bytes
    hlo: str
    memory: ProgramMemory
    flops: int
    chip: Chip | None = None
    assignment: Assignment | None = None


class DoesNotFit(MemoryError):
    """A program that needs more memory than the device has, so that XLA gives no executable.

    needed: bytes, to the precision of XLA's message. assignment: where its values would lie, if XLA got as far. held:
    what needs the memory and what would need less, in words.
    """

    code = "TPU104"

    def __init__(
        self,
        target: str,
        needed: int,
        available: int | None,
        why: str,
        assignment: Assignment | None = None,
        held: str = "",
    ):
        self.target, self.needed, self.available, self.why = target, needed, available, why
        self.assignment = assignment
        hint = held or "  try: a smaller batch, bfloat16 weights, or a chip with more memory"
        room = "" if available is None else f" and {target} has {available / 2**30:.2f} GiB for it"
        super().__init__(
            f"the program does not fit: it needs {needed / 2**30:.2f} GiB{room}\n"
            f"{hint}\n  XLA says:\n    {why}{page_of(self.code)}"
        )

    def renamed(self, renaming: Renaming) -> DoesNotFit:
        """Return the same refusal with other names of operations."""
        laid_out = self.assignment and Assignment(self.assignment.proto, renaming.text(self.assignment.hlo))
        return DoesNotFit(self.target, self.needed, self.available, renaming.text(self.why), laid_out)

    def explained(self, held: str) -> DoesNotFit:
        """Return the same refusal with what needs the memory, in words of lines that begin with two spaces."""
        return DoesNotFit(self.target, self.needed, self.available, self.why, self.assignment, held)


def bytes_needed(message: str) -> int | None:
    """Read how many bytes of device memory a program needs from XLA's error; None if the error says no such thing."""
    for pattern in _TOO_LARGE:
        if (match := pattern.search(message)) is not None:
            return int(float(match[1]) * _UNITS[match[2]])
    return None


def memory_of(stats: Mapping[str, int], available: int | None) -> ProgramMemory:
    """Convert PJRT's memory statistics, names ending in `_size_in_bytes`, into a ProgramMemory."""
    total = (
        stats["argument_size_in_bytes"]
        + stats["output_size_in_bytes"]
        - stats["alias_size_in_bytes"]
        + stats["temp_size_in_bytes"]
        + stats["generated_code_size_in_bytes"]
    )
    return ProgramMemory(
        arguments=stats["argument_size_in_bytes"],
        outputs=stats["output_size_in_bytes"],
        aliased=stats["alias_size_in_bytes"],
        temporaries=stats["temp_size_in_bytes"],
        code=stats["generated_code_size_in_bytes"],
        total=total,
        available=available,
    )
