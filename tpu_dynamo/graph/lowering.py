"""The second step: the program of a prepared graph at one set of sizes, from the cache or lowered."""

from __future__ import annotations

from typing import Protocol

import torch

from tpu_dynamo_lowering import AttentionForm, LoweringFailed, NoStableKey, Program, lower, take_kernel_seconds

from .._torch_compat import compile_lock
from ..artifacts import Artifacts
from ..cache.cache import Cache
from ..cache.signature import Signature, signature
from ..errors import CompilationFailed
from ..options import Options
from ..session import session
from ..statistics import KERNELS, LOWERING, READING
from .prepare import PreparedGraph, Sizes


class Target(Protocol):
    """A client, or a compiler: what lowering is told of the device that a program is for."""

    platform: str

    @property
    def fast_memory(self) -> int | None:
        """The bytes of memory next to the matrix unit, None where that is not known."""
        ...


def program_of(
    graph: PreparedGraph, sizes: Sizes, target: Target, options: Options, cache: Cache | None, artifacts: Artifacts
) -> tuple[Program, str | None]:
    """Return the graph's program with `sizes` in the place of its symbols, and its key in the cache.

    The key is None where no other process could find the program: without a cache, and for graphs that hold something
    which only this process knows. Raises what `lower_graph` raises.
    """
    # Who asks for dumps wants every form, also those that a program from the cache does not take.
    if cache is None or options.dump_dir is not None:
        return lower_and_count(graph, sizes, target, options, artifacts), None
    try:
        with session().statistics.clock.timed(READING):
            signed = sign_graph(graph, sizes, target, options)
    except NoStableKey as why:
        cache.count_unnameable(artifacts.name, why)
        return lower_and_count(graph, sizes, target, options, artifacts), None
    with (
        session().statistics.clock.timed(READING),
        cache.program(artifacts.name, target.platform, signed) as slot,
    ):
        return slot.program or slot.keep(lower_and_count(graph, sizes, target, options, artifacts)), signed.key


def sign_graph(graph: PreparedGraph, sizes: Sizes, target: Target, options: Options) -> Signature:
    """Return the graph's signature at these sizes. Raises NoStableKey for one that no other process could recognise."""
    return signature(
        graph.module,
        sizes,
        role=graph.role,
        platform=target.platform,
        fast_memory=target.fast_memory,
        options=options,
        donates=graph.on_device,
        handed_out=graph.handed_out,
        replicas=len(graph.span),
        frame=graph.frame,
    )


def lower_and_count(
    graph: PreparedGraph, sizes: Sizes, target: Target, options: Options, artifacts: Artifacts
) -> Program:
    """Lower a graph, and count it in `tpu_dynamo.stats()`. Raises CompileForbidden, and what `lower_graph` raises."""
    session().require_allowed(graph.described, artifacts.name, options.forbid_compile)
    clock = session().statistics.clock
    with compile_lock, clock.timed(LOWERING):  # PyTorch traces in one thread at a time
        program = lower_graph(graph, sizes, target.platform, artifacts, target.fast_memory, options.attention)
        clock.move(KERNELS, take_kernel_seconds())
    session().statistics.count("lowerings")
    return program


def lower_graph(
    graph: PreparedGraph,
    sizes: Sizes,
    platform: str,
    artifacts: Artifacts,
    fast_memory: int | None = None,
    attention: AttentionForm = "auto",
) -> Program:
    """Lower a graph with the process's settings. Raises UnsupportedOp, UnsupportedInput and CompilationFailed.

    artifacts: where its forms go, and the folder of a graph that should lower and does not. fast_memory,
    attention: as `lower` takes them.
    """
    try:
        return lower(
            graph.module,
            sizes,
            platform=platform,
            fast_memory=fast_memory,
            matmul_precision=torch.get_float32_matmul_precision(),
            attention=attention,
            donates=graph.on_device,
            handed_out=graph.handed_out,
            replicas=len(graph.span),
            observe=artifacts.observe,
        )
    except LoweringFailed as failure:
        repro = artifacts.write_repro(failure.artifacts)
        raise CompilationFailed(failure.stage, failure.why, failure.line, repro) from failure
