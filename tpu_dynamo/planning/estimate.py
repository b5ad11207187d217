"""A cheap model of what a step of a layout needs and costs, without a compiler: for choosing what to compile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tpu_dynamo_runtime import Interconnect, Topology

from .layouts import Layout
from .pairs import TensorPlan
from .profile import Profile

# How often a step reads or writes what the backward needs, and each parameter with its gradient and state, about.
_ACTIVATION_PASSES = 3
_PARAMETER_PASSES = 8
# The computations of a step in those of a forward: the backward is two, and another forward where it is repeated.
_REPEATED = 4 / 3


@dataclass(frozen=True)
class Estimate:
    """A step of one layout on one chip, estimated.

    memory: bytes, by what they are for. compute: seconds. communication: seconds by what it is for.
    """

    memory: Mapping[str, int]
    compute: float
    communication: Mapping[str, float]

    @property
    def total_memory(self) -> int:
        """All bytes."""
        return sum(self.memory.values())

    @property
    def step(self) -> tuple[float, float]:
        """Seconds of a step: with all of the communication behind computations, and with none of it."""
        exchanged = sum(self.communication.values())
        return max(self.compute, exchanged), self.compute + exchanged


class Estimator:
    """Estimates layouts of one model on one topology.

    places: the coordinates of the ranks' chips. state: bytes of the optimizer's state for each byte of parameters.
    """

    def __init__(
        self,
        facts: Profile,
        plan: TensorPlan,
        topology: Topology,
        places: list[list[int]],
        batch: int,
        state: float,
        *,
        training: bool = True,
    ):
        self._facts, self._plan, self._chip = facts, plan, topology.chip
        self._links = Interconnect(topology, places)
        self._batch, self._state, self._training = batch, state, training

    def estimate(self, layout: Layout) -> Estimate:
        """Estimate a step of a layout."""
        held = self._split_parameters(layout)
        memory = self._memory(layout, held)
        chip, facts = self._chip, self._facts
        repeated = _REPEATED if layout.recompute or layout.micro > 1 else 1
        flops = facts.flops * self._scale(layout) / layout.tensor * repeated
        saved = sum(self._saved(block, layout) for block in facts.saved) * self._scale(layout)
        touched = _ACTIVATION_PASSES * saved * repeated
        touched += sum(held.values()) * (1 if not self._training else _PARAMETER_PASSES / layout.shard)
        cycles = flops / chip.flops_per_cycle + touched / chip.bytes_per_cycle
        return Estimate(memory, cycles / chip.clock, self._communication(layout, held))

    def _scale(self, layout: Layout) -> float:
        return self._batch / layout.data / self._facts.rows

    def _split_parameters(self, layout: Layout) -> dict[str, float]:
        """Return the bytes of each parameter on a chip while it is gathered: a share of those of split layers."""
        split = [name + "." for name in self._plan.styles] if layout.tensor > 1 else []
        return {
            name: nbytes / layout.tensor if any(name.startswith(each) for each in split) else nbytes
            for name, nbytes in self._facts.parameters.items()
        }

    def _memory(self, layout: Layout, held: Mapping[str, float]) -> dict[str, int]:
        facts, scale = self._facts, self._scale(layout) / layout.micro
        own = sum(held.values()) / layout.shard
        by_block: dict[str, float] = {}
        for name, nbytes in held.items():
            block = facts.block_of(name)
            by_block[block] = by_block.get(block, 0) + nbytes
        outside = by_block.pop("", 0)
        gathered = outside + 2 * max(by_block.values(), default=0) if layout.shard > 1 else 0
        saved = {block: self._saved(block, layout) * scale for block in facts.saved}
        loss = saved.pop("", 0)
        if layout.recompute:
            kept = sum(facts.entering.values()) * scale + max(saved.values(), default=0)
        else:
            kept = sum(saved.values())
        memory = {"parameters": own, "gathered": gathered, "activations": kept + loss}
        if self._training:
            memory |= {"gradients": own, "optimizer": own * self._state}
        return {what: round(nbytes) for what, nbytes in memory.items()}

    def _saved(self, block: str, layout: Layout) -> float:
        nbytes = self._facts.saved[block]
        if layout.tensor == 1 or not block:
            return nbytes
        whole = min(nbytes, 2 * self._facts.entering.get(block, 0))  # what enters norms stays whole
        return whole + (nbytes - whole) / layout.tensor

    def _communication(self, layout: Layout, held: Mapping[str, float]) -> dict[str, float]:
        total = sum(held.values())
        found: dict[str, float] = {}
        if layout.shard > 1:
            passes = 2 if layout.micro == 1 else 3 * layout.micro
            group = self._group(layout, "shard")
            found["gathering parameters"] = passes * self._links.seconds("all-gather", [group], round(total))
            kind = "all-reduce" if self._links.sides(group) > 1 else "reduce-scatter"
            found["reducing gradients"] = layout.micro * self._links.seconds(kind, [group], round(total))
        if layout.replicate > 1 and self._training:
            group = self._group(layout, "replicate")
            seconds = self._links.seconds("all-reduce", [group], round(total / layout.shard))
            found["reducing gradients"] = found.get("reducing gradients", 0) + seconds
        if layout.tensor > 1:
            found["tensor parallel"] = self._tensor_parallel(layout)
        return found

    def _tensor_parallel(self, layout: Layout) -> float:
        group, scale = self._group(layout, "tensor"), self._scale(layout)
        passes = (2 + (layout.recompute or layout.micro > 1)) if self._training else 1
        seconds = 0.0
        for name, style in self._plan.styles.items():
            nbytes = round(self._facts.outputs.get(name, 0) * scale)
            if style in ("rowwise", "embedding"):
                times = passes if style == "rowwise" else 1
                seconds += times * self._links.seconds("all-reduce", [group], nbytes)
            elif style == "head":
                seconds += self._links.seconds("all-gather", [group], nbytes)
        return seconds

    def _group(self, layout: Layout, axis: str) -> tuple[int, ...]:
        """Return the ranks of the first group along an axis of a layout's mesh."""
        sizes = list(layout.mesh.items())
        position = [name for name, _ in sizes].index(axis)
        step = math.prod(size for _, size in sizes[position + 1 :])
        return tuple(range(0, step * sizes[position][1], step))
