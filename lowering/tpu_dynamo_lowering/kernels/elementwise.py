"""Elementwise operators, most of them one jax.numpy function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from .._torch_compat import OpOverload
from ..table import How, Lowering, add, kernel
from .dtypes import cast_number, jax_dtype, torch_dtype, wide

aten = torch.ops.aten
prims = torch.ops.prims


def _angle(x: Array) -> Array:
    # PyTorch ignores the sign of a real zero.
    return jnp.angle(x) if jnp.iscomplexobj(x) else jnp.where(x < 0, jnp.pi, jnp.where(x != x, x, 0))


def _sign(x: Array) -> Array:
    # Zero for nan and both zeros; a complex number's sign is its direction.
    if x.dtype == jnp.bool_ or jnp.iscomplexobj(x):
        return x if x.dtype == jnp.bool_ else jnp.sign(x)
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


_UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": jnp.abs,
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "angle": _angle,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "bitwise_not": jnp.bitwise_not,
    "cbrt": jnp.cbrt,
    "ceil": jnp.ceil,
    "conj_physical": jnp.conj,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "deg2rad": jnp.deg2rad,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "erf_inv": jax.scipy.special.erfinv,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "frac": lambda x: x - jnp.trunc(x),
    "isfinite": jnp.isfinite,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "isneginf": jnp.isneginf,
    "isposinf": jnp.isposinf,
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "logical_not": jnp.logical_not,
    "neg": jnp.negative,
    "positive": lambda x: x,
    "rad2deg": jnp.rad2deg,
    "reciprocal": lambda x: 1 / x,
    "relu": lambda x: jnp.maximum(x, 0),
    "round": jnp.round,
    "rsqrt": lambda x: lax.rsqrt(x) if jnp.issubdtype(x.dtype, jnp.inexact) else 1 / jnp.sqrt(x),
    "sgn": _sign,
    "sigmoid": jax.nn.sigmoid,
    "sign": _sign,
    "signbit": jnp.signbit,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "square": jnp.square,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "trunc": jnp.trunc,
}

# These functions take integers and half precision as they are; all others compute both in float32.
_KEEPS_DTYPE = {
    "abs", "bitwise_not", "ceil", "conj_physical", "floor", "frac", "isfinite", "isinf", "isnan", "isneginf",
    "isposinf", "logical_not", "neg", "positive", "relu", "round", "sgn", "sign", "signbit", "square", "trunc",
}  # fmt: skip

_ROUNDING = {"ceil", "floor", "round", "trunc"}


def _is_exact(x: Array) -> bool:
    return x.dtype == jnp.bool_ or jnp.issubdtype(x.dtype, jnp.integer)


def _unary(name: str, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def compute(self: Array) -> Array:
        if name in _ROUNDING and _is_exact(self):
            return self
        if name in _KEEPS_DTYPE:
            return function(self)
        # A function of several steps would round half precision after each.
        return function(self.astype(jnp.float32) if _is_exact(self) else wide(self))

    return compute


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "atan2": jnp.arctan2,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "copysign": jnp.copysign,
    "eq": jnp.equal,
    "fmax": jnp.fmax,
    "fmin": jnp.fmin,
    "ge": jnp.greater_equal,
    "gt": jnp.greater,
    "hypot": jnp.hypot,
    "le": jnp.less_equal,
    "logaddexp2": jnp.logaddexp2,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "lt": jnp.less,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "mul": jnp.multiply,
    "ne": jnp.not_equal,
    "nextafter": jnp.nextafter,
}

_HALVES = (jnp.float16, jnp.bfloat16)
_NUMBERS = (bool, int, float, complex)

# Functions of several steps, each of which would round half precision.
_SEVERAL_STEPS = {"atan2", "hypot", "logaddexp2"}


def promoted(x: Any, y: Any) -> tuple[Array, Array]:
    """Cast two operands, arrays or Python numbers, to the dtype that PyTorch promotes them to.

    Numbers that the dtype cannot hold wrap around or become infinite. A 0-d tensor gives way to a tensor with
    dimensions of the same or a higher category, a number to any tensor of its category. Reads shapes and dtypes only.
    Source: torch.result_type.
    """
    return _cast_both(x, y, _promotion(x, y))


def promoted_to_real(x: Any, y: Any) -> tuple[Array, Array]:
    """Promote two operands for a function of real numbers: integers become float32.

    A Python number keeps its value even where the integers that it meets could not hold it.
    """
    return _cast_both(x, y, _real(_promotion(x, y)))


def promoted_for_products(x: Any, y: Any) -> tuple[Array, Array]:
    """Promote two operands to the dtype in which PyTorch multiplies and floors quotients.

    Half precision with a second operand that is a number or a 0-d tensor is computed in float32, so that this operand
    is not rounded first.
    """
    return _cast_both(x, y, _unrounded(_promotion(x, y), y))


def promoted_for_quotients(x: Any, y: Any) -> tuple[Array, Array]:
    """Promote two operands to the dtype in which PyTorch divides: as for products, with float32 for integers."""
    return _cast_both(x, y, _unrounded(_real(_promotion(x, y)), y))


def _promotion(x: Any, y: Any) -> np.dtype[Any]:
    return jax_dtype(torch.result_type(_stand_in(x), _stand_in(y)))


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else np.dtype(jnp.float32)


def _unrounded(dtype: np.dtype[Any], y: Any) -> np.dtype[Any]:
    scalar = isinstance(y, _NUMBERS) or y.ndim == 0
    return np.dtype(jnp.float32) if dtype in _HALVES and scalar else dtype


def _cast_both(x: Any, y: Any, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    return _cast_operand(x, dtype), _cast_operand(y, dtype)


def _cast_operand(x: Any, dtype: np.dtype[Any]) -> Array:
    return jnp.asarray(cast_number(x, dtype)) if isinstance(x, _NUMBERS) else jnp.asarray(x, dtype)


def _stand_in(x: Any) -> Any:
    if isinstance(x, _NUMBERS):
        return x
    return torch.empty((1,) * x.ndim, dtype=torch_dtype(x.dtype), device="meta")


# The promotion of the functions for which it is not `promoted`.
_PROMOTIONS = {
    **dict.fromkeys(("atan2", "copysign", "hypot", "logaddexp2", "nextafter"), promoted_to_real),
    "mul": promoted_for_products,
}


def _binary(name: str, function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def compute(self: Array, other: Array) -> Array:
        x, y = _PROMOTIONS.get(name, promoted)(self, other)
        return function(wide(x), wide(y)) if name in _SEVERAL_STEPS else function(x, y)

    return compute


def _enter(names: dict[str, Any], wrap: Callable[[str, Any], Any], overloads: tuple[str, ...], reason: str) -> None:
    for name, function in names.items():
        found = (*(_overload(aten, name, o) for o in overloads), _overload(prims, name, "default"))
        if not any(found):
            raise TypeError(f"neither aten nor prims has an operator {name!r} of tensors")
        for overload in found:
            if overload is not None:
                add(Lowering(overload, How.KERNEL, reason, wrap(name, function)))


def _overload(namespace: Any, name: str, overload: str) -> OpOverload | None:
    packet = getattr(namespace, name, None)
    found = getattr(packet, overload, None) if overload in getattr(packet, "overloads", list)() else None
    # TorchScript's overloads for numbers take no tensors: leave them out.
    return found if found is not None and any("Tensor" in str(a.type) for a in found._schema.arguments) else None


_enter(_UNARY, _unary, ("default",), "one jax.numpy function, in PyTorch's dtype for integers.")
_enter(_BINARY, _binary, ("default", "Tensor", "Scalar"), "one jax.numpy function, in PyTorch's promoted dtype.")


@kernel(aten.heaviside.default)
def heaviside(self: Array, values: Array) -> Array:
    """Return 0 where `self` is negative or nan, 1 where positive and `values` where zero."""
    x, y = promoted(self, values)
    return jnp.where(x == 0, y, (x > 0).astype(y.dtype))


@kernel(aten.addcdiv.default)
def addcdiv(self: Array, tensor1: Array, tensor2: Array, *, value: Any = 1) -> Array:
    """Return self + value * tensor1 / tensor2."""
    first, second = promoted(tensor1, tensor2)
    x, first = promoted(self, first)
    x, second = promoted(x, second)
    x, first, second = wide(x), wide(first), wide(second)
    return x + jnp.asarray(value, x.dtype) * first / second
