"""The plan of a model for a topology: all layouts estimated, the best few compiled, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tpu_dynamo_lowering import UnsupportedInput, UnsupportedOp
from tpu_dynamo_runtime import CompileError, DoesNotFit, Topology, UnknownTarget, find_topology
from tpu_dynamo_runtime.topology_compiler import TopologyCompiler

from ..ahead_of_time.steps import MakeOptimizer
from ..ahead_of_time.target_graphs import TargetGraph, compile_with
from ..errors import CompilationFailed
from ..options import Options
from .estimate import Estimate, Estimator
from .laying_out import lay_out, rows_of, with_rows
from .layouts import Layout, layouts
from .pairs import TensorPlan, tensor_plan
from .profile import Profile, profile

# Gives a model on the meta device, and its arguments.
Factory = Callable[[], tuple[nn.Module, Sequence[Any], Mapping[str, Any]]]


@dataclass
class Candidate:
    """One layout with what is known of it.

    estimate: by the cheap model. fits: whether the estimate, or libtpu where it compiled it, fits the chip. compiled:
    the graph by libtpu, for the best few. problem: why it could not be compiled, empty if it was or was not tried.
    """

    layout: Layout
    estimate: Estimate
    fits: bool
    compiled: TargetGraph | None = None
    problem: str = ""

    @property
    def step(self) -> tuple[float, float]:
        """Seconds of a step at best and at worst, by libtpu's figures where there are some."""
        if self.compiled is None or self.compiled.memory.fits is False:
            return self.estimate.step
        communication = self.compiled.communication
        if communication is not None:
            return communication.step
        seconds = (self.compiled.cost.cycles or 0) / self.clock
        return seconds, seconds

    clock: float = 1.0

    @property
    def memory(self) -> int:
        """Bytes of a chip, by libtpu's figures where there are some."""
        return self.estimate.total_memory if self.compiled is None else self.compiled.memory.total

    @property
    def errors(self) -> tuple[float, float] | None:
        """The errors of the cheap model against libtpu, of memory and of a step: 0.1 for a tenth too much."""
        if self.compiled is None or self.compiled.memory.fits is False:
            return None
        return self.estimate.total_memory / self.memory - 1, middle(self.estimate.step) / middle(self.step) - 1


@dataclass(frozen=True)
class Plan:
    """The layouts of a model for a topology, the best first."""

    topology: Topology
    batch: int
    training: bool
    facts: Profile
    tensor: TensorPlan
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def order_agrees(self) -> bool | None:
        """True if libtpu puts what it compiled in the order of the cheap model; None of fewer than two."""
        both = [each for each in self.candidates if each.errors is not None]
        if len(both) < 2:
            return None
        return sorted(both, key=lambda each: middle(each.estimate.step)) == sorted(
            both, key=lambda each: middle(each.step)
        )


def middle(step: tuple[float, float]) -> float:
    """Return the middle of a range, by which layouts are put in order."""
    return sum(step) / 2


def plan(
    factory: Factory,
    target: str,
    *,
    batch: int | None = None,
    training: bool = True,
    loss: Callable[..., Tensor] | None = None,
    optimizer: MakeOptimizer | None = None,
    compile: int = 3,
    report: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Return the layouts of a model for a topology, the best first: those that fit, by the middle of a step's range.

    factory: gives a new model each time, which is laid out, with example arguments whose largest first dimension is
    the rows of a batch. batch: rows of all chips together, by default the example's on each chip. optimizer: by default
    AdamW. compile: how many of the best libtpu compiles. report: told what is being done. Raises UnknownTarget.
    """
    topology = find_topology(target)
    if topology is None:
        raise UnknownTarget(target)
    make = optimizer or (lambda parameters: torch.optim.AdamW(parameters, lr=1e-4))
    report("running the model once on tensors without values")
    model, args, kwargs = factory()
    facts = profile(model, args, kwargs, loss, training=training)
    tensor = tensor_plan(model, facts.blocks)
    chips = topology.chips * topology.chip.devices
    rows = batch or facts.rows * chips
    with TopologyCompiler(topology) as compiler:
        places = compiler.assignment_of(tuple(range(chips)))
        state = state_of(make, next(model.parameters()).dtype) if training else 0.0
        estimator = Estimator(facts, tensor, topology, places, rows, state, training=training)
        found = [
            Candidate(layout, estimate, estimate.total_memory <= topology.chip.usable_hbm, clock=topology.chip.clock)
            for layout in layouts(chips, rows, tensor, training=training, blocks=bool(facts.blocks))
            for estimate in [estimator.estimate(layout)]
        ]
        found.sort(key=lambda each: _order(each, middle(each.estimate.step)))
        for number, candidate in enumerate(found[:compile]):
            report(f"compiling {candidate.layout.name} ({number + 1} of {min(compile, len(found))})")
            _compile(candidate, compiler, factory, facts, tensor, rows, training, loss, make)
    found.sort(key=_final)
    return Plan(topology, rows, training, facts, tensor, found)


def state_of(make: MakeOptimizer, dtype: torch.dtype) -> float:
    """Return the bytes of an optimizer's state for each byte of its parameters, from a step of a small one."""
    parameter = nn.Parameter(torch.zeros(32, 32, dtype=dtype, device="cpu"))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = make([parameter])
    optimizer.step()
    kept = [t for t in optimizer.state[parameter].values() if isinstance(t, Tensor) and t.ndim]
    return sum(t.numel() * t.element_size() for t in kept) / (parameter.numel() * parameter.element_size())


def _order(candidate: Candidate, seconds: float) -> tuple[bool, float, int]:
    return not candidate.fits, seconds, candidate.memory


def _final(candidate: Candidate) -> tuple[bool, bool, bool, float, int]:
    """Return the place of a layout in the plan: what libtpu compiled comes before what is only estimated."""
    fits, seconds, memory = _order(candidate, middle(candidate.step))
    return bool(candidate.problem), fits, candidate.compiled is None, seconds, memory


def _compile(
    candidate: Candidate,
    compiler: TopologyCompiler,
    factory: Factory,
    facts: Profile,
    tensor: TensorPlan,
    batch: int,
    training: bool,
    loss: Callable[..., Tensor] | None,
    make: MakeOptimizer,
) -> None:
    """Let libtpu compile a layout, and take down what it says."""
    layout = candidate.layout

    def build(mesh: Any) -> Any:
        model, args, kwargs = factory()
        rows = batch // layout.data
        args, kwargs = with_rows(
            (tuple(args), dict(kwargs)), rows_of((args, kwargs)), lambda t: t.new_empty((rows, *t.shape[1:]))
        )
        return lay_out(model, layout, tensor, facts.blocks, mesh), args, kwargs

    try:
        graphs = compile_with(
            compiler, build, (), None, compiler.topology.name, Options(target=compiler.topology.name), layout.mesh,
            loss=loss, optimizer=make if training else None,
        )  # fmt: skip
    except (UnsupportedOp, UnsupportedInput, CompilationFailed, CompileError, DoesNotFit) as why:
        candidate.problem = str(why)
        return
    candidate.compiled = graphs[-1]
    candidate.fits = candidate.compiled.memory.fits is not False
