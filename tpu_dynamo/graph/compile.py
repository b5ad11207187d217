"""The compiler that AOTAutograd calls with each of its graphs: prepare, then compile, or freeze and compile later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.fx import GraphModule

from ..artifacts import next_name
from ..cache.signature import Frame
from ..options import Options
from ..session import session
from .compiled import compile_for_inputs
from .frozen import FrozenGraph
from .prepare import BoxedCallable, PreparedGraph, Watch, prepare_graph
from .saved_values import SavedValues


def compile_graph(
    options: Options,
    captured: Mapping[str, Callable[[], str]],
    frame: Frame,
    saved: SavedValues,
    watch: Watch | None,
    role: str,
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
) -> BoxedCallable:
    """Compile one functional ATen graph for the sizes that it was traced with.

    role: `forward`, `backward` or `inference`. saved: shared by the graphs of one graph of Dynamo's. captured: the
    graph as Dynamo gave it, for dump folders and traces. watch: watches the calls of the compiled graph. Raises
    OptionError, UnsupportedOp, UnsupportedInput and CompilationFailed.
    """
    session().statistics.count("graphs", role)
    graph = prepare_graph(role, graph_module, next_name(role), frame, captured)

    def make(graph: PreparedGraph, inputs: Sequence[Any]) -> BoxedCallable:
        if options.freeze:
            return FrozenGraph(graph, options)
        return compile_for_inputs(graph, inputs, options, saved)

    return make(graph, example_inputs) if watch is None else watch(graph, make, example_inputs)
