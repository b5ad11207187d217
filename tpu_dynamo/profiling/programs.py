"""Programs that ran, read from their optimised HLO: what each operation computes, and what it is estimated to cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from tpu_dynamo_runtime import cost_of
from tpu_dynamo_runtime.hlo import Computation, Instruction, Module, Origin, origin_in, parse_hlo
from tpu_dynamo_runtime.hlo_places import origin_of

from .recording import RecordedProgram
from .sampling import Place

EAGER = "eager operators"


class ParsedProgram:
    """An optimised program, which is parsed when something of it is first asked for. hlo: its text."""

    def __init__(self, hlo: str):
        self.hlo = hlo

    @cached_property
    def module(self) -> Module | None:
        """The parsed text; None where there is none."""
        return parse_hlo(self.hlo) if self.hlo else None

    @cached_property
    def instructions(self) -> dict[str, tuple[Computation, Instruction]]:
        """All instructions by name, each with its computation."""
        computations = self.module.computations.values() if self.module is not None else ()
        return {name: (each, found) for each in computations for name, found in each.instructions.items()}

    @cached_property
    def _by_kernel(self) -> dict[str, str]:
        return {re.sub(r"\W", "_", name): name for name in self.instructions}

    def find(self, operation: str) -> tuple[Computation, Instruction] | None:
        """Return the instruction of a name; kernels in a CUDA graph are known by their own, as `loop_add_fusion_3`."""
        return self.instructions.get(operation) or self.instructions.get(self._by_kernel.get(operation, ""))

    @cached_property
    def place(self) -> Place | None:
        """The line of its first operation that has one; None where its HLO names none of the user's lines."""
        return next(iter(self.places), None)

    @cached_property
    def places(self) -> dict[Place, None]:
        """The lines of its operations, in their order."""
        lines = (found.source_line for _, found in self.instructions.values())
        return dict.fromkeys(filter(None, lines))


class RanProgram:
    """A program of a recording."""

    def __init__(self, recorded: RecordedProgram, parsed: ParsedProgram):
        self._recorded = recorded
        self._parsed = parsed

    @cached_property
    def graph(self) -> str:
        """Its graph's name, with a line, which graphs that were found without being traced do not know."""
        described = self._recorded.described
        if not described:
            return EAGER
        if self._parsed.place is None or "(" in described:
            return described
        file, line = self._parsed.place
        return f"{described} ({Path(file).name}:{line})"

    @property
    def has_lines(self) -> bool:
        """True if its HLO names any of the user's lines, which eager operators' does not."""
        return self._parsed.place is not None

    @cached_property
    def has_lines_of_its_graph(self) -> bool:
        """True if the lines that its HLO names are the graph's, not those of the source that it was compiled from."""
        operations = self._recorded.operations
        if not self._recorded.described or not self.has_lines:
            return True
        known = {origin.place for origin in map(origin_in, operations or ()) if origin is not None}
        return operations is not None and known >= self._parsed.places.keys()

    @property
    def ambiguous(self) -> frozenset[Place]:
        """Lines to which time of others counts as well, since they were one when the program was compiled."""
        return self._recorded.ambiguous

    def has(self, operation: str) -> bool:
        """Return True if the program has an instruction of this name, or one whose kernel has it."""
        return self._parsed.find(operation) is not None

    def opcode(self, operation: str) -> str:
        """Return the opcode of an instruction; the empty string for one that the program does not have."""
        found = self._parsed.find(operation)
        return "" if found is None else found[1].opcode

    def origin(self, operation: str) -> Origin | None:
        """Return the user's operation that an instruction computes; None where nothing tells."""
        found = self._parsed.find(operation)
        if found is None or self._parsed.module is None:
            return None
        return origin_of(self._parsed.module, *found)

    @cached_property
    def estimated_shares(self) -> dict[Place | None, float]:
        """The share of each line in XLA's estimate: of its cycles, or of the bytes that it reads and writes."""
        if not self._parsed.hlo:
            return {}
        cost = cost_of(self._parsed.hlo, 0)
        weights = {
            None if row.file is None or row.line is None else (row.file, row.line): row.cycles or row.bytes_accessed
            for row in cost.by_line()
        }
        whole = sum(weights.values())
        return {place: weight / whole for place, weight in weights.items()} if whole else {}


def ran_programs(programs: Iterable[RecordedProgram]) -> list[RanProgram]:
    """Return the programs of a recording; graphs that share one have it parsed once."""
    parsed: dict[str, ParsedProgram] = {}
    return [RanProgram(each, parsed.setdefault(each.hlo, ParsedProgram(each.hlo))) for each in programs]
