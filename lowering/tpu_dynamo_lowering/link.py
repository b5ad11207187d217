"""Linking: torch-mlir's module and the kernels' become one StableHLO program, finished for XLA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from . import jax_compat
from .diagnostics import explain
from .errors import LoweringFailed, Unsupported, UnsupportedOp
from .kernels.call import KernelCall
from .tpu import legalise

# What XLA takes; CHLO it legalises itself, better than StableHLO's passes (erf and top-k stay one operation).
_ACCEPTED = {"builtin", "func", "stablehlo", "chlo"}
# JAX's words for a primitive, such as `eig`, that a platform does not have.
_NO_RULE = re.compile(r"MLIR translation rule for primitive '(\w+)' not found for platform (\w+)")
# The target of kernels that were written in Pallas.
_MOSAIC = "tpu_custom_call"
_CONTRACTIONS = {"stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution", "chlo.ragged_dot"}
# Complex products are made of products of their parts.
_FLOAT32 = {"f32", "complex<f32>"}
_CONSTANTS = {"arith.constant", "chlo.constant"}
# torch.get_float32_matmul_precision() in StableHLO's words: on TPU the default is one bfloat16 pass.
_PRECISION = {"highest": "HIGHEST", "high": "HIGH", "medium": "DEFAULT"}


class Linked(NamedTuple):
    """A finished program: its bytecode, its digest, and the targets of its custom calls."""

    stablehlo: bytes
    digest: str
    custom_calls: tuple[str, ...]


class _CachedKernel:
    """A kernel call for a cache of its code: it equals another by its key."""

    def __init__(self, call: KernelCall):
        self.key = call.key
        self.call: KernelCall | None = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CachedKernel) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=1024)
def _kernel_bytecode(kernel: _CachedKernel, platform: str, replicas: int) -> bytes:
    # The cache holds the kernel but not its call, with which goes what JAX keeps of tracing it.
    call, kernel.call = kernel.call, None
    assert call is not None
    return jax_compat.to_bytecode(jax_compat.lower_function(call, call.operand_types(), platform, replicas))


def _lower_kernels(kernels: Mapping[str, KernelCall], platform: str, replicas: int) -> dict[str, bytes]:
    """Lower each kernel to a module, by symbol. Raises UnsupportedOp with all calls that their kernels refuse."""
    lowered: dict[str, bytes] = {}
    refused: list[Unsupported] = []
    for symbol, call in kernels.items():
        try:
            lowered[symbol] = _kernel_bytecode(_CachedKernel(call), platform, replicas)
        except NotImplementedError as error:
            why = _NO_RULE.sub(r"XLA has no \1 for the platform \2", str(error))
            hint = "compute it outside the compiled function"
            refused.append(Unsupported(call.what, why, hint, call.line, node=call.node))
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            why = f"{call.what}: {type(error).__name__}: {error}"
            raise LoweringFailed("tracing a kernel", why, call.line) from error
    if refused:
        raise UnsupportedOp(refused)
    return lowered


def link(
    program: bytes,
    kernels: Mapping[str, KernelCall],
    *,
    platform: str,
    matmul_precision: str,
    aliases: Mapping[int, int] | None = None,
    replicas: int = 0,
) -> Linked:
    """Link and finish a program.

    program: torch-mlir's output, with a private declaration for each symbol of `kernels`. platform: `cpu`,
    `cuda` or `tpu`, which a kernel may be written differently for. matmul_precision: as
    `torch.get_float32_matmul_precision()` gives it. aliases: arguments of `@main` and the results that take their
    memory. replicas: the number of devices that the program spans, 0 for one that runs on its own device alone. Raises
    UnsupportedOp for calls that a kernel refuses, and LoweringFailed when one breaks or something other than StableHLO
    is left.
    """
    modules = _lower_kernels(kernels, platform, replicas)
    context = jax_compat.new_context()
    module = jax_compat.parse(program, context)
    for symbol, function in jax_compat.functions(module).items():
        if jax_compat.is_declaration(function):
            function.operation.erase()
            jax_compat.move_functions(jax_compat.parse(modules[symbol], context), module, symbol)
    _finish(module, _PRECISION[matmul_precision])
    if platform == "tpu":
        legalise(module)
    calls = jax_compat.custom_calls(module)
    if _MOSAIC in calls:
        from .pallas_compat import strip_kernels  # Pallas takes a while to import

        strip_kernels(module)
    jax_compat.alias_results(jax_compat.functions(module)["main"], aliases or {})
    try:
        module.operation.verify()
    except jax_compat.MLIRError as error:
        artifacts = {"torch-mlir.mlir": jax_compat.as_text(program), "diagnostics.txt": str(error)}
        raise LoweringFailed("verifying StableHLO", *explain(error), artifacts) from error
    finished = jax_compat.to_bytecode(module)
    foreign = jax_compat.dialects(jax_compat.operations(module)) - _ACCEPTED
    if foreign:
        why = f"operations of {', '.join(sorted(foreign))} are left in the program"
        raise LoweringFailed("linking", why, artifacts={"stablehlo.mlir": jax_compat.as_text(finished)})
    return Linked(finished, jax_compat.digest(module), calls)


def _finish(module: Any, precision: str) -> None:
    """Say in plain, static StableHLO what torch-mlir says with constants of shapes and broadcasting operations."""
    shapes = []
    for operation in jax_compat.operations(module):
        name = operation.operation.name
        if name == "stablehlo.dynamic_reshape":
            jax_compat.replace_dynamic_reshape(operation)
        elif name == "stablehlo.real_dynamic_slice":
            jax_compat.replace_dynamic_slice(operation)
        elif name == "stablehlo.dynamic_broadcast_in_dim":
            jax_compat.replace_dynamic_broadcast(operation)
        elif name.startswith("chlo.broadcast_"):
            jax_compat.replace_broadcasting(operation)
        elif name in _CONTRACTIONS and jax_compat.element_type(operation.operands[0]) in _FLOAT32:
            # A kernel that asks for the highest precision computes something that the user's choice is not about.
            if not jax_compat.has_highest_precision(operation):
                jax_compat.set_precision(operation, precision)
        elif name in _CONSTANTS or name == "builtin.unrealized_conversion_cast":
            shapes.append(operation)
    # Users before what they use: a cast of a shape, then the shape.
    for operation in reversed(shapes):
        if not jax_compat.erase_if_unused(operation) and operation.operation.name in _CONSTANTS:
            jax_compat.replace_constant(operation)
