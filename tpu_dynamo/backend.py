"""The backend: what `torch.compile(model, backend="tpu")` calls with each graph that Dynamo captures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch.fx import GraphModule

from .import_clock import BEGUN  # isort: split

from tpu_dynamo_lowering import readable

from ._torch_compat import compile_with_aot_autograd, leave_out_streams
from .artifacts import recording_unsupported_input
from .graph.clients import client_of
from .graph.compile import compile_graph
from .graph.inputs import check_inputs
from .graph.prepare import Watch, captured_frame
from .graph.saved_values import SavedValues
from .graph.torch_cache import compile_entry, finding_programs, kept_by_torch
from .numerics.sometimes import checking_sometimes
from .options import Options
from .session import session
from .statistics import AUTOGRAD, IMPORTS


@recording_unsupported_input()
def tpu(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compile one graph of Dynamo's for a TPU, or for the PJRT platform that `options["target"]` names.

    options: see tpu_dynamo.Options. Raises OptionError, UnknownTarget, PlatformUnavailable, UnsupportedInput,
    UnsupportedOp and CompilationFailed; Dynamo wraps them in BackendCompilerFailed.
    """
    return compile_captured(graph_module, example_inputs, Options.parse(options, mode))


def compile_captured(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    options: Options,
    rewritten: Callable[[GraphModule], GraphModule] | None = None,
    watch: Watch | None = None,
) -> Callable[..., Any]:
    """Compile one graph of Dynamo's with parsed options. Raises what `tpu` raises.

    rewritten: makes of a functional graph, without gradients, another with the same inputs and outputs, which is
    compiled in its place. watch: watches the calls of the compiled graphs, by default as options["check"] says.
    """
    watch = watch or checking_sometimes(options)
    on_device = check_inputs(graph_module, example_inputs)
    leave_out_streams(graph_module)
    client = client_of(options, on_device)
    captured = readable(graph_module) if options.dump_dir else ""
    forms = {"dynamo.fx.py": lambda: captured or readable(graph_module)}
    # What torch's cache keeps leads to a program, and no longer to a graph that could be watched.
    kept = (
        kept_by_torch(options, client, on_device, rewritten.__name__ if rewritten is not None else "")
        if watch is None
        else None
    )
    frame = captured_frame(graph_module)
    given = options, forms, frame, SavedValues()
    compile_role = partial(compile_graph, *given, watch) if kept is None else partial(compile_entry, *given)

    def inference(module: GraphModule, inputs: Sequence[Any]) -> Any:
        return compile_role("inference", module if rewritten is None else rewritten(module), inputs)

    with session().statistics.clock.timed(AUTOGRAD), finding_programs(options, frame.operations):
        return compile_with_aot_autograd(
            graph_module,
            example_inputs,
            forward=partial(compile_role, "forward"),
            backward=partial(compile_role, "backward"),
            inference=inference,
            partitioner=options.partitioner,
            activation_memory_budget=options.activation_memory_budget,
            cache_use=kept,
        )


# torch._dynamo.reset() calls this. Dynamo may keep a compiled function in its module's globals for longer.
tpu.reset = session().release_graphs  # pyright: ignore[reportFunctionMemberAccess]
session().statistics.clock.add(IMPORTS, time.perf_counter() - BEGUN)
