"""Functions in JAX, lowered to modules without a backend, and the settings of JAX that this depends on."""

from __future__ import annotations

import contextlib
import enum
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax._src import config, core, sharding_impls
from jax._src.config import include_full_tracebacks_in_locations
from jax._src.interpreters import mlir as jax_mlir
from jax._src.interpreters import partial_eval
from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from .modules import move_functions, operations, parse, to_bytecode

InconclusiveSize = core.InconclusiveDimensionOperation

# The axis of a program's ranks, for JAX's collectives.
RANKS = "ranks"

_PLAIN = (bool, int, float, str, enum.Enum, type(None))


class _NoBackend:
    """Stands for the backend, of no platform, that lowering would start to ask it for its version."""

    platform = runtime_type = "none"


def lower_function(
    function: Callable[..., Any], operands: Sequence[jax.ShapeDtypeStruct], platform: str, replicas: int = 0
) -> ir.Module:
    """Lower `function` on `operands` to a StableHLO module with one `@main`, for one platform.

    Initialises no backend, so it works on a machine without the platform. 64-bit types are kept in this call
    alone: JAX's x64 flag belongs to the user. replicas: the length of the axis `RANKS` that the function sees; without
    it there is none.
    """
    # Of a location the kernel's own line is enough: callers above it would be frames of this package and of Dynamo.
    short_locations = include_full_tracebacks_in_locations(False)
    axis = [(RANKS, replicas)] if replicas else []
    # Beyond the scope jaxlib would remember, and its caches hold, the user's code that is being compiled.
    with _jax.TracebackScope(), jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), short_locations:
        with core.extend_axis_env_nd(axis):
            closed: Any = jax.make_jaxpr(function)(*operands)
            if closed.jaxpr.is_high:  # primitives that JAX itself takes apart before it lowers them
                closed = partial_eval.lower_jaxpr2(closed)
        context: Any = sharding_impls.ShardingContext(num_devices=1)
        if replicas:
            mesh: Any = jax.sharding.AbstractMesh((replicas,), (RANKS,))
            context = sharding_impls.SPMDAxisContext(mesh, frozenset({RANKS}))
        module = jax_mlir.lower_jaxpr_to_module(
            "kernel",
            closed,
            num_const_args=0,
            in_avals=closed.in_avals,
            ordered_effects=[],
            platforms=[platform],
            backend=_NoBackend(),
            axis_context=context,
            donated_args=[False] * len(operands),
            lowering_parameters=jax_mlir.LoweringParameters(override_lowering_rules=_interpreted(platform)),
            **_result_types(closed),
        ).module
    if replicas:
        _number_replicas(module)
    return module


def _result_types(closed: Any) -> dict[str, Any]:
    """Return the types of results as lowering wants them said: jax 0.12 does, older releases read them themselves."""
    wanted = "out_avals" in inspect.signature(jax_mlir.lower_jaxpr_to_module).parameters
    return {"out_avals": closed.out_avals} if wanted else {}


def _interpreted(platform: str) -> Any:
    """Return the rule that has Pallas kernels interpreted on a CPU; None elsewhere, and where there is no Pallas."""
    pallas_call: Any = sys.modules.get("jax._src.pallas.pallas_call")
    if platform != "cpu" or pallas_call is None:
        return None

    def interpret(context: Any, *operands: Any, interpret: Any, **parameters: Any) -> Any:
        return pallas_call._pallas_call_lowering(context, *operands, interpret=interpret or True, **parameters)

    return ((pallas_call.pallas_call_p, interpret),)


@contextlib.contextmanager
def plain_settings() -> Iterator[None]:
    """Trace what is inside as JAX does by default, but keep 64-bit arrays: numbers and new arrays have 32 bits."""
    with jax.enable_x64(False), config.explicit_x64_dtypes("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def _number_replicas(module: ir.Module) -> None:
    """Let collectives act among replicas: JAX says them of partitions, each under a channel and by global numbers."""
    for operation in operations(module):
        for attribute in ("channel_handle", "use_global_device_ids"):
            if attribute in operation.attributes:
                del operation.attributes[attribute]
        if operation.operation.name == "stablehlo.partition_id":
            with operation.context, operation.location, ir.InsertionPoint(operation):
                replica = stablehlo.ReplicaIdOp()
            operation.results[0].replace_all_uses_with(replica.result)
            operation.operation.erase()


def settings() -> tuple[object, ...]:
    """Return the settings of JAX that a trace in this thread depends on, as far as they are plain values."""
    return tuple(v if isinstance(v, _PLAIN) else type(v).__name__ for v in config.trace_context())


def add_function(
    module: ir.Module,
    symbol: str,
    function: Callable[..., Any],
    operands: Sequence[jax.ShapeDtypeStruct],
    platform: str,
) -> None:
    """Append a function of arrays with one result to the module, as the private `symbol`."""
    lowered = lower_function(lambda *given: (function(*given),), operands, platform)
    move_functions(parse(to_bytecode(lowered), module.context), module, symbol)
