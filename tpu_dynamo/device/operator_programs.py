"""Small programs that run on device tensors: traced from a Python function, compiled once, called with buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from typing import Any

import torch

from tpu_dynamo_lowering import Output, Program, TensorSpec, lower, trace
from tpu_dynamo_runtime import Buffer, Client, Copying, Launch, PooledProgram, Result, client

from ..cache.settings import cache_settings
from ..cache.signature import Frame, Signature, signature
from ..options import Options
from ..session import session
from .fresh_thread import in_fresh_thread

Spec = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


@once
def device_client() -> Client:
    """The PJRT client behind torch.device("tpu"): a TPU where there is one, else XLA's CPU client.

    The same as long as the process lives, since tensors hold its buffers.
    """
    return client("auto")


def in_use() -> bool:
    """Whether something was asked of the device, so that its client runs."""
    return device_client.cache_info().currsize > 0


@once
def transfer() -> Copying:
    """What moves tensors between the host and the device."""
    return Copying(device_client(), session().statistics.traffic)


def launch(entry: PooledProgram, program: Program) -> Launch:
    """What runs a program's executable."""
    results = [Result(spec.shape, spec.dtype, spec.order) for spec in program.results]
    return Launch(entry, results, session().statistics.traffic)


@dataclass
class DeviceProgram:
    """A compiled function of tensors.

    operands: for each parameter the position of its tensor and the memory order in which it is taken. results: what
    the program gives; outputs: how the function's outputs are made of it. random_keys: int64 keys that each call draws.
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


def compile_program(function: Callable[..., Any], specs: Sequence[Spec]) -> DeviceProgram:
    """Trace a function on tensors of (shape, stride, dtype) and compile it, outside of whatever modes are on.

    Raises UnsupportedOp for what has no lowering, and what `function` raises.
    """
    return in_fresh_thread(lambda: _compile(function, specs))


def _compile(function: Callable[..., Any], specs: Sequence[Spec]) -> DeviceProgram:
    device = device_client()
    graph_module = trace(function, specs)

    def lowered() -> Program:
        precision = torch.get_float32_matmul_precision()
        program = lower(graph_module, {}, platform=device.platform, matmul_precision=precision)
        session().statistics.count("lowerings")
        return program

    def signed() -> Signature:
        return signature(
            graph_module,
            {},
            role="operator",
            platform=device.platform,
            options=Options(),
            donates=False,
            frame=Frame(),
        )

    cache = session().cache(cache_settings())
    program = lowered() if cache is None else cache.program(None, device.platform, signed, lowered)[0]
    return DeviceProgram(
        launch(session().load_operator(device, program), program),
        [(argument.position, argument.spec.order) for argument in program.arguments[: program.inputs]],
        program.results,
        program.outputs,
        [transfer().put(constant) for constant in program.constants],
        program.random_keys,
    )
