"""XLA's own estimate of a program's cost on a chip: the total, and the shares of the user's source lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .chips import Chip
from .hlo import Computation, Instruction, Module, parse_hlo
from .hlo_bytes import bytes_accessed
from .hlo_loops import trip_count
from .hlo_places import SourceLine, place_of
from .kernel_estimates import KERNEL, is_kernel, kernel_cycles
from .notebook_tables import html_table

# They take no time of their own: names for memory, what runs is counted inside, or the waiting for a copy.
_FREE = {
    "add-dependency", "after-all", "async-done", "async-update", "bitcast", "constant", "copy-done", "copy-start",
    "domain", "get-tuple-element", "opt-barrier", "parameter", "partition-id", "replica-id", "slice-done",
    "slice-start", "tuple",
}  # fmt: skip
# They run another computation, and libtpu estimates what is in it.
_INSIDE = ("to_apply", "calls", "called_computations")

_CORES = ("gather", "scatter", "sort", "dynamic-slice", "dynamic-update-slice")


@dataclass(frozen=True)
class LineCost:
    """The share of one source line; file and line are None for what cannot be attributed to any.

    cycles: None where XLA estimates none, as for a CPU. unestimated: the number of instructions without an estimate.
    """

    file: str | None
    line: int | None
    cycles: int | None
    bytes_accessed: int
    unestimated: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file is not None else "not of any line"
        cycles = "" if self.cycles is None else f"{self.cycles:,} cycles, "
        return f"{place}: {cycles}{self.bytes_accessed:,} bytes"


@dataclass(frozen=True)
class Cost:
    """The estimated (not measured) cost of one run of a program.

    cycles: the sum of libtpu's `estimated_cycles` over the instructions that run: the body of a loop as often as it
    runs, the dearest branch of a conditional, a fusion once. None where XLA estimates none, as for a CPU.
    flops: as XLA counts them, the bodies of loops once. bytes_accessed: read from and written to the chip's main
    memory. unestimated: what libtpu gives no cycles for, and so is not in them: how many instructions by opcode or
    by the target of a custom call.
    kernels: cycles, among `cycles`, that no libtpu estimated: of kernels by their own CostEstimate, as if they waited
    for nothing. replaced: kernels that libtpu itself puts into the executable, how many; they are counted as the
    operations that they stand for.
    """

    cycles: int | None
    flops: int
    bytes_accessed: int
    unestimated: dict[str, int]
    lines: tuple[LineCost, ...] = field(repr=False)
    kernels: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)

    def by_line(self) -> list[LineCost]:
        """Return the cost by source line, the dearest first; the rows add up to the whole.

        A fusion of several lines is the line's that XLA names for it. What XLA adds, such as prefetches and changes
        of layout, counts to the line that it adds it for.
        """
        return list(self.lines)

    def _repr_html_(self) -> str:
        """Return the cost by source line for a notebook."""
        rows = [
            (f"{row.file}:{row.line}" if row.file is not None else "not of any line", row.cycles, row.bytes_accessed)
            for row in self.lines
        ]
        whole = ("all", self.cycles, self.bytes_accessed)
        uncounted = ", ".join(f"{count} {kind}" for kind, count in self.unestimated.items())
        caption = f"without an estimate, and in no cycles: {uncounted}" if uncounted else ""
        return html_table(("line", "cycles", "bytes"), [*rows, whole], caption)


def cost_of(hlo: str, flops: int, chip: Chip | None = None) -> Cost:
    """Compute the cost of a program from its optimised HLO.

    flops: XLA's count. chip: for which it was compiled; without it kernels have no estimate.
    """
    module = parse_hlo(hlo)
    account = _Account(module, chip)
    whole = account.of(module.entry, None)
    estimated = chip is not None or '"estimated_cycles"' in hlo
    rows = [
        LineCost(
            *(place or (None, None)),
            whole.cycles[place] if estimated else None,
            whole.nbytes[place],
            whole.unestimated_at[place] if estimated else 0,
        )
        for place in {**whole.cycles, **whole.nbytes, **whole.unestimated_at}
    ]
    rows.sort(key=lambda row: (-(row.cycles or 0), -row.bytes_accessed, row.file or "", row.line or 0))
    return Cost(
        cycles=whole.cycles.total() if estimated else None,
        flops=flops,
        bytes_accessed=whole.nbytes.total(),
        unestimated=dict(whole.unestimated) if estimated else {},
        lines=tuple(rows),
        kernels=dict(whole.kernels),
    )


@dataclass
class _Sum:
    """Costs by place, of one run of a computation."""

    cycles: Counter[SourceLine | None] = field(default_factory=Counter)
    nbytes: Counter[SourceLine | None] = field(default_factory=Counter)
    unestimated_at: Counter[SourceLine | None] = field(default_factory=Counter)
    unestimated: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Sum, times: int = 1) -> None:
        for mine, theirs in ((self.cycles, other.cycles), (self.nbytes, other.nbytes)):
            for place, amount in theirs.items():
                mine[place] += amount * times
        for what, amount in other.kernels.items():
            self.kernels[what] += amount * times
        self.unestimated_at.update(other.unestimated_at)
        self.unestimated.update(other.unestimated)

    def miss(self, what: str, place: SourceLine | None) -> None:
        self.unestimated[what] += 1
        self.unestimated_at[place] += 1


class _Account:
    """Adds up the instructions of a module."""

    def __init__(self, module: Module, chip: Chip | None):
        self._module = module
        self._chip = chip

    def of(self, computation: Computation, owner: SourceLine | None) -> _Sum:
        """Sum up one run of a computation; instructions without a source line count to the line `owner`."""
        total = _Sum()
        for instruction in computation.instructions.values():
            self._add(total, computation, instruction, owner)
        return total

    def _add(self, total: _Sum, computation: Computation, instruction: Instruction, owner: SourceLine | None) -> None:
        opcode, cycles = instruction.opcode, instruction.cycles
        place = place_of(self._module, computation, instruction) or owner
        if (nbytes := bytes_accessed(self._module, computation, instruction)) > 0:
            total.nbytes[place] += nbytes
        if opcode == "while":
            self._add_loop(total, computation, instruction, place)
        elif opcode == "conditional":
            self._add_branches(total, instruction, place)
        elif cycles is not None:
            total.cycles[place] += cycles
        elif opcode in _FREE:
            pass
        elif self._chip is not None and (estimate := _kernel_cycles(instruction, self._chip)) is not None:
            total.cycles[place] += estimate
            total.kernels[f"custom-call {KERNEL}"] += estimate
        elif opcode in ("call", "async-start"):
            for name in instruction.called(*_INSIDE):
                total.add(self.of(self._module.computations[name], place))
        elif sum(array.elements for array in instruction.arrays) > 1:
            # Scalars are the sequencer's: libtpu estimates none of them.
            total.miss(_what(self._module, instruction), place)

    def _add_loop(self, total: _Sum, computation: Computation, loop: Instruction, place: SourceLine | None) -> None:
        times = trip_count(self._module, computation, loop)
        if times is None:
            total.miss("while of unknown length, counted once", place)
        for key, runs in (("body", times), ("condition", None if times is None else times + 1)):
            for name in loop.called(key):
                total.add(self.of(self._module.computations[name], place), 1 if runs is None else runs)

    def _add_branches(self, total: _Sum, conditional: Instruction, place: SourceLine | None) -> None:
        names = conditional.called("branch_computations", "true_computation", "false_computation")
        branches = [self.of(self._module.computations[name], place) for name in names]
        total.add(max(branches, key=lambda branch: (branch.cycles.total(), branch.nbytes.total())))


def _kernel_cycles(instruction: Instruction, chip: Chip) -> int | None:
    return kernel_cycles(instruction, chip) if is_kernel(instruction) else None


def _what(module: Module, instruction: Instruction) -> str:
    """Name an instruction in a word; a fusion by the instruction that it was made around, else by its last one."""
    while instruction.opcode == "fusion":
        (name,) = instruction.called("calls")
        body = module.computations[name]
        core = [i for i in body.instructions.values() if i.opcode in _CORES]
        instruction = core[0] if core else body.root
    target = instruction.attribute("custom_call_target")
    return f"custom-call {target}" if target else instruction.opcode
