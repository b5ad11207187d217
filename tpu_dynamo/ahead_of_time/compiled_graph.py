"""One graph of a model, lowered and compiled for a target, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import (
    Communication,
    Compilation,
    Cost,
    DoesNotFit,
    Peak,
    ProgramMemory,
    Span,
    count,
    html_table,
    peak_of,
)

from ..artifacts import Artifacts
from ..peaks.owners import Interface, owned_peak
from ..peaks.remedies import Remedy, remedies

Role = Literal["forward", "backward", "inference", "step"]


@dataclass(frozen=True)
class GraphProgram:
    """One graph of a model, lowered: its role, a name that tells it from the others, and its program.

    span: the ranks that run it together.
    """

    name: str
    role: Role
    program: Program
    artifacts: Artifacts
    interface: Interface
    span: Span = ()


@dataclass(frozen=True, repr=False)
class TargetGraph:
    """One graph of a model, compiled for a target.

    name: the same for the same graph in every call of compile_for, such as `0000-inference`. role: `forward`,
    `backward`, `inference` or `step`. digest: of the program without source locations; equal for equal computations.
    memory: what it needs and whether the target has it. A graph that does not fit has no executable: its `cost`,
    `optimized_hlo` and `executable` raise DoesNotFit. span: the ranks of a mesh that run it together, empty for a graph
    without collectives; memory and cost are those of one chip.
    """

    name: str
    role: Role
    target: str
    digest: str
    memory: ProgramMemory
    _program: Program
    _compiled: Compilation | DoesNotFit
    _interface: Interface
    _explain: Callable[[], Compilation]
    _to_count: Compilation | None = None
    span: Span = ()
    _communication: Callable[[str, int], Communication] | None = None

    @property
    def stablehlo(self) -> str:
        """The program as lowering gives it, with locations; large constants are elided."""
        return self._program.text()

    @property
    def optimized_hlo(self) -> str:
        """The program as XLA made it for the target. Raises DoesNotFit."""
        return self._compilation.hlo

    @cached_property
    def cost(self) -> Cost:
        """The cost of one run by XLA's estimate, in all and by source line. Raises DoesNotFit.

        Where libtpu puts kernels of its own into the executable, the cost is that of the same program without them.
        """
        return count(self._compilation, self._to_count)

    @cached_property
    def peak(self) -> Peak | None:
        """The values that are alive when most memory is in use; None where XLA does not say.

        For a topology the program is compiled once more for it, unless it did not fit.
        """
        assignment = self._compiled.assignment or self._explain().assignment
        found = None if assignment is None else peak_of(assignment, self.memory)
        return None if found is None else owned_peak(found, self._interface)

    @property
    def remedies(self) -> list[Remedy]:
        """The cheapest changes that make the peak smaller, with what they gain by estimate; at most three."""
        return [] if self.peak is None else remedies(self.peak, self._interface)

    @cached_property
    def communication(self) -> Communication | None:
        """The collectives of one run: bytes and time by axis of the mesh and by source line; None without any.

        Raises DoesNotFit.
        """
        if self._communication is None:
            return None
        return self._communication(self._compilation.hlo, self.cost.cycles or 0)

    @property
    def executable(self) -> bytes:
        """The serialised executable, which loads on a machine that has the target. Raises DoesNotFit."""
        return self._compilation.executable

    @property
    def _compilation(self) -> Compilation:
        if isinstance(self._compiled, DoesNotFit):
            raise self._compiled
        return self._compiled

    def _repr_html_(self) -> str:
        """Return what the graph needs, and its cost by source line where it fits, for a notebook."""
        memory = html_table(("of memory", "bytes"), asdict(self.memory).items(), repr(self))
        return memory if isinstance(self._compiled, DoesNotFit) else memory + self.cost._repr_html_()

    def __repr__(self) -> str:
        fits = {True: "fits", False: "does not fit", None: "of unknown room"}[self.memory.fits]
        return f"<TargetGraph {self.name} for {self.target}: {self.memory.total / 2**20:,.1f} MiB, {fits}>"
