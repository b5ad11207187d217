"""Small programs on device tensors: traced from a Python function, compiled once, called with buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import NoStableKey, Output, Program, TensorSpec, lower, trace
from tpu_dynamo_runtime import Buffer, Client, Copying, Launch, PooledProgram, Result, Span, client, watched_compile

from ..cache.settings import cache_settings
from ..cache.signature import Frame, signature
from ..distributed.order import launch_of
from ..options import Options
from ..progress import operators
from ..session import session, tell_what_is_held
from .fresh_thread import in_fresh_thread

Spec = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


@once
def device_client() -> Client:
    """Return the PJRT client behind torch.device("tpu"): of a TPU where there is one, else XLA's CPU client.

    It stays the same as long as the process lives, since tensors hold its buffers.
    """
    lasting = client("auto", lasting=True)
    tell_what_is_held(lasting)
    return lasting


def in_use() -> bool:
    """Return True once the device's client was started, which its first use does."""
    return device_client.cache_info().currsize > 0


@once
def transfer() -> Copying:
    """Return the object that copies tensors between the host and the device."""
    return Copying(device_client(), session().statistics.traffic)


def launch(entry: PooledProgram, program: Program) -> Launch:
    """Return the Launch that runs a program's executable and gives buffers of its results."""
    results = [Result(spec.shape, spec.dtype, spec.order) for spec in program.results]
    return launch_of(entry, results, session().statistics.traffic)


@dataclass
class DeviceProgram:
    """A compiled function of tensors.

    operands: for each parameter of the program the position of its tensor, and the memory order in which it is read.
    results: the program's; outputs: how the function's outputs are made of them. random_keys: how many int64 keys each
    call draws.
    """

    launch: Launch
    operands: list[tuple[int, tuple[int, ...]]]
    results: tuple[TensorSpec, ...]
    outputs: tuple[Output, ...]
    constants: list[Buffer]
    random_keys: int

    def __call__(self, operands: Sequence[Buffer]) -> list[Buffer]:
        """Run; `operands` are the buffers in the order of `self.operands`, the keys among them."""
        return self.launch([*operands, *self.constants])


def compile_program(
    function: Callable[..., Any], specs: Sequence[Spec], span: Span = (), place: str = ""
) -> DeviceProgram:
    """Trace a function on tensors of (shape, stride, dtype) and compile it, outside of whatever modes are on.

    span: the ranks that run it together, if it has collectives, which name positions among them. place: the user's line
    that does. Raises UnsupportedOp for what has no lowering, what `function` raises, and what `Session.load_operator`
    does.
    """
    with operators.compiling(), watched_compile("compiling an eager operator"):
        return in_fresh_thread(lambda: _compile(function, specs, span, place))


def _compile(function: Callable[..., Any], specs: Sequence[Spec], span: Span, place: str) -> DeviceProgram:
    device = device_client()
    program = _program_of(trace(function, specs), device, len(span))
    return DeviceProgram(
        launch(session().load_operator(device, program, span, place), program),
        [(argument.position, argument.spec.order) for argument in program.arguments[: program.inputs]],
        program.results,
        program.outputs,
        [transfer().put(constant) for constant in program.constants],
        program.random_keys,
    )


def _program_of(graph_module: GraphModule, device: Client, replicas: int) -> Program:
    """Return the program of a traced operator, from the cache that the environment names or lowered."""
    cache = session().cache(cache_settings())
    if cache is None:
        return _lower(graph_module, device, replicas)
    try:
        signed = signature(
            graph_module,
            {},
            role="operator",
            platform=device.platform,
            fast_memory=device.fast_memory,
            options=Options(),
            donates=False,
            replicas=replicas,
            frame=Frame(),
        )
    except NoStableKey as why:
        cache.count_unnameable(None, why)
        return _lower(graph_module, device, replicas)
    with cache.program(None, device.platform, signed) as slot:
        return slot.program or slot.keep(_lower(graph_module, device, replicas))


def _lower(graph_module: GraphModule, device: Client, replicas: int) -> Program:
    targets = [str(node.target) for node in graph_module.graph.nodes if node.op == "call_function"]
    session().require_allowed(f"the eager operator {', '.join(targets)}")
    program = lower(
        graph_module,
        {},
        platform=device.platform,
        fast_memory=device.fast_memory,
        matmul_precision=torch.get_float32_matmul_precision(),
        replicas=replicas,
    )
    session().statistics.count("lowerings")
    return program
