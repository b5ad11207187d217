"""Stretches of a graph run three times from the same values: compiled, by eager operators, and in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from tpu_dynamo_lowering import Functional, Operator

from ..device import NAME as DEVICE
from ..graph.compiled import CompiledGraph, compile_sizes
from ..graph.prepare import PreparedGraph
from ..options import Options
from .comparing import Comparison, compare
from .reference import CannotRun, Reference, Values, as_promised


@dataclass(frozen=True)
class Outcome:
    """A stretch's results: those of eager operators, of ours, and the comparisons of those that are not right."""

    eager: Values
    ours: Values
    wrong: dict[Node, Comparison]


class Stretches:
    """Runs stretches of one graph at one set of sizes, each compiled by itself."""

    def __init__(self, graph: PreparedGraph, whole: Functional, options: Options):
        self.whole = whole
        self._graph = graph
        # A stretch is of no use to any other run, and what is refused here is no fallback of the user's program.
        self._options = replace(options, cache=False, dump_dir=None, buckets=(), freeze=False, check=0)

    def outcome(self, operators: Sequence[Operator], values: Mapping[Node, Any]) -> Outcome:
        """Run a stretch on eager's values, and compare what is read outside of it.

        Raises CannotRun, UnsupportedOp and CompilationFailed.
        """
        outputs = self.whole.read_outside(operators)
        eager = Reference(self.whole).run(operators, values, outputs)
        ours = self.ours(operators, values, outputs)
        return Outcome(eager, ours, self.compare_values(operators, values, ours, eager))

    def ours(self, operators: Sequence[Operator], values: Mapping[Node, Any], outputs: Sequence[Node]) -> Values:
        """Compile a stretch that returns `outputs`, and run it; results are on the CPU."""
        drawn = {node for each in operators if each.drawn for node in each.nodes}
        computed = [node for node in outputs if node not in drawn]
        found: Values = {node: values[node] for node in outputs if node in drawn}
        if not computed:
            return found
        part = self.whole.stretch(operators, computed)
        graph = replace(
            self._graph,
            name=f"{self._graph.name}-stretch",
            role="inference",
            module=part.module,
            eager=part.module,
            static=(),
            returned=None,
            forms={},
        )
        made = compile_sizes(graph, {}, self._options)
        run = made.direct if isinstance(made, CompiledGraph) else made
        results = run([self._placed(node, values[node]) for node in part.inputs])
        return found | {node: on_host(result) for node, result in zip(computed, results, strict=True)}

    def compare_values(
        self, operators: Sequence[Operator], values: Mapping[Node, Any], ours: Values, eager: Values
    ) -> dict[Node, Comparison]:
        """Return the comparisons of results that are not right, in float64 too if they are not near eager's."""
        suspects = [
            node for node in ours if as_promised(node, eager[node]) and not compare(ours[node], eager[node]).within
        ]
        if not suspects:
            return {}
        exact = Reference(self.whole, double=True).run(operators, values, suspects)
        compared = {node: compare(ours[node], eager[node], exact[node]) for node in suspects}
        return {node: each for node, each in compared.items() if not each.within}

    def _placed(self, node: Node, value: Any) -> Any:
        """Return a value where the stretch finds it, in the memory order that its fake tensor promises."""
        if not isinstance(value, torch.Tensor):
            return value
        fake = node.meta["val"]
        if not as_promised(node, value):
            raise CannotRun(node, f"its result has the shape {list(value.shape)}, not {list(fake.shape)}")
        placed = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype)
        if _is_dense_enough(fake):
            placed.copy_(value)
        else:  # expanded: elements share memory
            placed = value.detach().clone()
        return placed.to(DEVICE) if fake.device.type == DEVICE else placed


def _is_dense_enough(fake: torch.Tensor) -> bool:
    return not any(size > 1 and stride == 0 for size, stride in zip(fake.shape, fake.stride(), strict=True))


def on_host(value: Any) -> Any:
    """Return a tensor on the CPU, anything else as it is."""
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
