"""The third step: a program loaded on its PJRT client, as what AOTAutograd can call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import (
    Client,
    CompileError,
    CopiedExecutable,
    DoesNotFit,
    Executable,
    FlagRefused,
    Operand,
    PooledProgram,
    ProgramInterface,
    Renaming,
    Result,
    SharedExecutable,
    XlaRuntimeError,
)

from ..artifacts import Artifacts, record_event
from ..cache.cache import Cache
from ..device.device_executable import DeviceExecutable
from ..device.generator import draw_keys
from ..errors import refusal_of_xla
from ..options import OptionError, Options
from ..peaks.owners import interface_of
from ..peaks.words import memory_needed, refusal_in_words
from ..session import session
from .outputs import with_graph_outputs
from .prepare import BoxedCallable, PreparedGraph
from .saved_activations import buffer_of, kept_results, results_of
from .torch_entry import GraphRecord

log = logging.getLogger("tpu_dynamo")


@contextmanager
def explaining_xla(
    platform: str,
    program: Program,
    artifacts: Artifacts,
    too_large: Callable[[Exception], DoesNotFit | None] = lambda error: None,
    renamed: Callable[[str], str] = str,
) -> Iterator[None]:
    """Turn XLA's errors within the context into UnsupportedOp or CompilationFailed, with the user's line.

    What is refused about a flag in the options becomes an OptionError. too_large: returns the error for a program that
    was refused for its size. renamed: gives a message the graph's own lines, where the program was found and has those
    of another source.
    """
    try:
        yield
    except FlagRefused as refused:
        raise OptionError(f"option xla_flags: {refused}") from None
    except (XlaRuntimeError, CompileError) as error:
        if isinstance(error, XlaRuntimeError) and (refusal := too_large(error)) is not None:
            raise refusal from error
        forms = {"stablehlo.mlir": program.text()}
        raise refusal_of_xla(platform, renamed(str(error)), lambda: artifacts.write_repro(forms)) from error


def load_program(
    client: Client,
    program: Program,
    graph: PreparedGraph | GraphRecord,
    options: Options,
    cache: Cache | None,
    artifacts: Artifacts,
    lowering_seconds: float,
    before: Mapping[str, float],
    operations: Callable[[], Sequence[str] | None],
) -> BoxedCallable:
    """Load a graph's program, from the cache or compiled by XLA, and return what AOTAutograd can call.

    lowering_seconds: the time that it took to have the program, for logs. before: the seconds by stage before that, for
    the report. operations: gives the names of the graph's operations, which those of a program that was found may not
    be; None where nobody knows them. Raises UnsupportedOp and CompilationFailed for what XLA refuses, DoesNotFit for
    what is too large for the device, OptionError for a flag.
    """
    started = time.perf_counter()
    span = graph.span if isinstance(graph, PreparedGraph) else ()

    def too_large(error: Exception) -> DoesNotFit | None:
        refusal = client.does_not_fit(program.stablehlo, options.xla_flags, span, error)
        if refusal is None or not isinstance(graph, PreparedGraph):
            return refusal
        refusal = refusal.renamed(renaming())
        interface = interface_of(program, graph, client.platform)
        return refusal_in_words(refusal, memory_needed(program, refusal), interface)

    def renaming() -> Renaming:
        return Renaming(program.operations, operations() or ())

    with explaining_xla(client.platform, program, artifacts, too_large, lambda text: renaming().text(text)):
        loaded = session().load(
            client,
            program,
            options.max_executables,
            cache,
            artifacts.name,
            options.xla_flags,
            span,
            options.forbid_compile,
        )
    taken = time.perf_counter() - started
    record_event("stages", lambda: {"graph": artifacts.name, "seconds": session().statistics.seconds_since(before)})
    log.info(
        "graph %s: program in %.2f s, loaded for %s in %.2f s",
        artifacts.name, lowering_seconds, client.platform, taken,
    )  # fmt: skip
    described = graph.described if isinstance(graph, PreparedGraph) else f"{graph.role} graph {artifacts.name}"
    loaded.operations_of[described] = operations
    artifacts.observe("optimised.hlo", lambda: loaded.renaming(described).text(client.optimised_hlo(loaded.loaded())))
    if graph.on_device:
        return with_graph_outputs(DeviceExecutable(loaded, program, described), program, draw_keys)
    executable = _cpu_executable(client, program, graph, options, loaded, described)
    session().note(executable)
    return with_graph_outputs(executable, program, _draw_from_default_generator)


def _cpu_executable(
    client: Client,
    program: Program,
    graph: PreparedGraph | GraphRecord,
    options: Options,
    loaded: PooledProgram,
    described: str,
) -> Executable:
    """Return the SharedExecutable or CopiedExecutable that runs a program on CPU tensors."""
    traffic = session().statistics.traffic
    inputs = program.arguments[: program.inputs]
    operands = [Operand(a.position, a.spec.order, a.position in graph.static) for a in inputs]
    results = [Result(result.shape, result.dtype, result.order) for result in program.results]
    updates = [(update.position, update.result) for update in program.updates]
    interface = ProgramInterface(operands, results, updates, program.constants)
    if client.platform == "cpu" and options.transfer != "copy":
        handed_out = results_of(program.outputs[: graph.returned])
        return SharedExecutable(loaded, traffic, interface, handed_out, described)
    return CopiedExecutable(
        loaded,
        traffic,
        interface,
        kept=kept_results(program, graph.returned) if graph.returned is not None else None,
        buffer_of=buffer_of,
        residents=session().residents(client),
        described=described,
    )


def _draw_from_default_generator(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.int64, device="cpu").random_()
