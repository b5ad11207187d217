"""A prepared graph at one set of sizes, from its signature to what AOTAutograd can call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from tpu_dynamo_lowering import operation_names
from tpu_dynamo_runtime import watched_compile

from ..artifacts import Artifacts, next_name
from ..cache.packed_names import pack_names
from ..cache.settings import cache_settings
from ..options import Options
from ..progress import showing_progress
from ..session import session
from ..statistics import READING
from .clients import client_of
from .loading import load_program
from .lowering import program_of
from .prepare import BoxedCallable, PreparedGraph, Sizes
from .torch_entry import GraphRecord


def specialise(graph: PreparedGraph, sizes: Sizes, options: Options) -> tuple[BoxedCallable, GraphRecord | None]:
    """Lower, compile and load a graph with `sizes` in the place of its symbols.

    What an earlier process lowered or compiled is taken from the cache. Beside what can be called stands the record
    with which other processes find it; None where they cannot. Raises UnsupportedOp, UnsupportedInput and
    CompilationFailed.
    """
    started, before = time.perf_counter(), session().statistics.clock.seconds()
    client = client_of(options, graph.on_device)
    cache = session().cache(cache_settings(options))
    artifacts = graph.artifacts(sizes, options.dump_dir)
    with (
        showing_progress(lambda: f"compiling {graph.described} for {client.platform}"),
        watched_compile(f"compiling {graph.name}"),
    ):
        program, key = program_of(graph, sizes, client, options, cache, artifacts)
        seconds = time.perf_counter() - started
        names = operation_names(graph.module, sizes)
        run = load_program(client, program, graph, options, cache, artifacts, seconds, before, lambda: names)
    if key is None or sizes or graph.span:  # a record would have to say which ranks the reader is to span
        return run, None
    static = tuple(sorted(graph.static))
    written = pack_names(names), pack_names(graph.frame.operations)
    return run, GraphRecord(graph.role, key, graph.on_device, static, graph.returned, *written)


def revive(record: GraphRecord, options: Options, captured: Sequence[str]) -> BoxedCallable | None:
    """Load a graph that another process compiled, without the graph; None where its program is no longer kept.

    captured: the names of the operations of Dynamo's graph in this process. Raises UnsupportedOp and CompilationFailed
    for what XLA refuses.
    """
    started, before = time.perf_counter(), session().statistics.clock.seconds()
    client = client_of(options, record.on_device)
    cache = session().cache(cache_settings(options))
    artifacts = Artifacts(next_name(record.role))
    with session().statistics.clock.timed(READING):
        program = cache.known_program(artifacts.name, client.platform, record.signature) if cache is not None else None
    if program is None:
        return None
    session().statistics.count("graphs", record.role)
    seconds = time.perf_counter() - started
    names = partial(record.operations_here, captured)
    return load_program(client, program, record, options, cache, artifacts, seconds, before, names)
