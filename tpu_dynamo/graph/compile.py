"""The compiler that AOTAutograd calls with each of its graphs: prepare, then compile, or freeze and compile later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.fx import GraphModule

from ..artifacts import next_name
from ..cache.signature import Frame
from ..options import Options
from ..session import session
from .compiled import CompiledGraph, DynamicGraph, EagerGraph, compile_for_inputs
from .cut import CutGraph
from .frozen import FrozenGraph
from .prepare import prepare_graph
from .saved_values import SavedValues


def compile_graph(
    options: Options,
    captured: Mapping[str, Callable[[], str]],
    frame: Frame,
    saved: SavedValues,
    role: str,
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
) -> CompiledGraph | CutGraph | DynamicGraph | EagerGraph | FrozenGraph:
    """Compile one functional ATen graph for the sizes that it was traced with.

    role: `forward`, `backward` or `inference`. saved: shared by the graphs of one graph of Dynamo's. captured: the
    graph as Dynamo gave it, for dump folders and traces. Raises OptionError, UnsupportedOp, UnsupportedInput and
    CompilationFailed.
    """
    session().statistics.count("graphs", role)
    graph = prepare_graph(role, graph_module, next_name(role), frame, captured)
    if options.freeze:
        return FrozenGraph(graph, options)
    return compile_for_inputs(graph, example_inputs, options, saved)
