"""A packed graph's way through lowering, XLA and, where its inputs have values, a check: how far it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tpu_dynamo_lowering import Program, UnsupportedInput, UnsupportedOp
from tpu_dynamo_runtime import Compiler, DoesNotFit

from ..artifacts import Artifacts
from ..errors import CompilationFailed
from ..graph.compiled import compile_for_inputs
from ..graph.loading import explaining_xla
from ..graph.lowering import lower_graph
from ..graph.prepare import PreparedGraph
from ..numerics.check_call import check_call
from ..numerics.recording import RecordedCall, RecordingGraph
from ..options import Options
from .manifest import Failure, Stage


@dataclass
class Way:
    """The stages that a graph went through. failure: at the stage after the last that it went through."""

    reached: list[Stage] = field(default_factory=list)
    program: Program | None = None
    failure: Failure | None = None
    told: str = ""


def go(graph: PreparedGraph, compiler: Compiler, options: Options, inputs: Sequence[Any] | None) -> Way:
    """Take a graph of numbers for sizes as far as it gets. inputs: their values, to run it here and check it."""
    way = Way()
    stage: Stage = "lowering"
    try:
        artifacts = Artifacts(graph.name, None, graph.forms)
        way.program = lower_graph(graph, {}, compiler.platform, artifacts, compiler.fast_memory, options.attention)
        way.reached.append(stage)
        stage = "XLA"
        with explaining_xla(compiler.platform, way.program, artifacts):
            compiler.compile(way.program.stablehlo, options.xla_flags, graph.span)
        way.reached.append(stage)
        if inputs is not None:
            stage = "check"
            _check(graph, options, inputs, way)
    except (UnsupportedOp, UnsupportedInput, CompilationFailed, DoesNotFit) as error:
        way.failure = Failure(stage, type(error).__name__, getattr(error, "code", ""), str(error))
    return way


def _check(graph: PreparedGraph, options: Options, inputs: Sequence[Any], way: Way) -> None:
    calls: list[RecordedCall] = []
    run = RecordingGraph(graph, lambda g, given: compile_for_inputs(g, given, options), inputs, calls.append)
    run(list(inputs))
    found = check_call(calls[0], options)
    if found.fault is not None:
        way.failure = Failure("check", "WrongResults", "", str(found.fault))
    elif found.unchecked is not None:
        way.told = found.unchecked
    else:
        way.reached.append("check")
