"""Division, remainders, powers, shifts and clamping, with PyTorch's rules for integers, signs and nan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import checked_number
from .elementwise import promoted, promoted_for_products, promoted_for_quotients

aten = torch.ops.aten
prims = torch.ops.prims


def is_exact(x: Array) -> bool:
    """Return True for an array of integers or booleans."""
    return x.dtype == jnp.bool_ or jnp.issubdtype(x.dtype, jnp.integer)


def _matched(x: Any, y: Any, promotion: Callable[[Any, Any], tuple[Array, Array]] = promoted) -> tuple[Array, Array]:
    """Promote two operands to one dtype and broadcast them to one shape, as lax's functions require."""
    left, right = jnp.broadcast_arrays(*promotion(x, y))
    return left, right


def as_float(x: Array) -> Array:
    """Cast integers and booleans to float32, the dtype of PyTorch's real functions of them; leave other dtypes."""
    return x.astype(jnp.float32) if is_exact(x) else x


def _nonzero(divisor: Array) -> Array:
    # Eager PyTorch raises for an integer division by zero; a program cannot raise, and divides by one.
    return jnp.where(divisor == 0, jnp.ones_like(divisor), divisor)


def _truncated(x: Array, y: Array) -> Array:
    return lax.div(x, _nonzero(y)) if is_exact(x) else jnp.trunc(x / y)


def _floored(x: Array, y: Array) -> Array:
    if x.dtype == jnp.bool_:
        return x & y
    if is_exact(x):
        return jnp.floor_divide(x, _nonzero(y))
    # PyTorch's own algorithm (aten/src/ATen/native/BinaryOps.h, div_floor_floating): a plain floor(x / y) is off by
    # one where the quotient rounds up to an integer.
    remainder = lax.rem(x, y)
    quotient = (x - remainder) / y
    quotient = jnp.where((remainder != 0) & ((y < 0) != (remainder < 0)), quotient - 1, quotient)
    floored = jnp.floor(quotient)
    floored = jnp.where(quotient - floored > 0.5, floored + 1, floored)
    floored = jnp.where(quotient == 0, jnp.copysign(jnp.zeros_like(x), x / y), floored)
    return jnp.where(y == 0, x / y, floored)


@kernel(aten.add.Tensor, aten.add.Scalar)
def add(self: Array, other: Any, alpha: Any = 1) -> Array:
    """Return self + alpha * other; for booleans their logical or."""
    x, y = promoted(self, other)
    return x | (y if alpha else jnp.zeros_like(y)) if x.dtype == jnp.bool_ else x + checked_number(alpha, x.dtype) * y


@kernel(aten.sub.Tensor, aten.sub.Scalar)
def sub(self: Array, other: Any, alpha: Any = 1) -> Array:
    """Return self - alpha * other."""
    x, y = promoted(self, other)
    return x - checked_number(alpha, x.dtype) * y


@kernel(prims.add.default)
def prims_add(self: Any, other: Any) -> Array:
    """Return the sum of two operands of one dtype."""
    return add(self, other)


@kernel(prims.sub.default)
def prims_sub(self: Any, other: Any) -> Array:
    """Return the difference of two operands of one dtype."""
    return sub(self, other)


@kernel(aten.div.Tensor, aten.div.Scalar)
def div(self: Array, other: Any) -> Array:
    """Return self / other; integers give floats."""
    x, y = promoted_for_quotients(self, other)
    return x / y


@kernel(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_mode(self: Any, other: Any, *, rounding_mode: str | None) -> Array:
    """Divide without rounding, truncated or floored, as `rounding_mode` (None, "trunc" or "floor") says.

    An integer division by zero, an error in eager PyTorch, gives an unspecified number here. torch-mlir has no exact
    floor for floats.
    """
    if rounding_mode is None:
        return div(self, other)
    x, y = _matched(self, other, promoted_for_products)
    return _truncated(x, y) if rounding_mode == "trunc" else _floored(x, y)


@kernel(aten.floor_divide.default, aten.floor_divide.Scalar)
def floor_divide(self: Any, other: Any) -> Array:
    """Return floor(self / other); integers stay integers, and their division by zero gives an unspecified number."""
    return _floored(*_matched(self, other, promoted_for_products))


@kernel(prims.div.default)
def prims_div(self: Any, other: Any) -> Array:
    """Divide two operands of one dtype: floats exactly, integers truncated towards zero."""
    x, y = _matched(self, other)
    return _truncated(x, y) if is_exact(x) else x / y


def _remainder(x: Array, y: Array) -> Array:
    if x.dtype == jnp.bool_:
        return x & ~y
    if is_exact(x):
        return jnp.remainder(x, _nonzero(y))
    result = lax.rem(x, y)
    return jnp.where((result != 0) & ((y < 0) != (result < 0)), result + y, result)


@kernel(aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor, prims.remainder.default)
def remainder(self: Any, other: Any) -> Array:
    """Return the remainder that has the divisor's sign.

    torch-mlir's pattern is wrong for integers of opposite signs.
    """
    return _remainder(*_matched(self, other))


@kernel(aten.fmod.Tensor, aten.fmod.Scalar, prims.fmod.default)
def fmod(self: Any, other: Any) -> Array:
    """Return the remainder that has the dividend's sign."""
    x, y = _matched(self, other)
    return lax.rem(x, _nonzero(y) if is_exact(x) else y)


def _integer_power(base: Array, exponent: Array) -> Array:
    """Raise integers to integer powers, which wrap around; a negative exponent gives 1, -1 or 0, as in PyTorch."""
    positive = jnp.maximum(exponent, 0)
    unsigned = jnp.issubdtype(exponent.dtype, jnp.unsignedinteger)
    result, squared = jnp.ones_like(base), base
    # No bit may be skipped: powers of odd numbers never wrap to zero.
    for bit in range(8 * exponent.dtype.itemsize - (not unsigned)):
        result = jnp.where((positive >> bit) & 1 == 1, result * squared, result)
        squared = squared * squared
    if unsigned:
        return result
    odd = (exponent & 1) == 1
    inverse = jnp.where(base == 1, 1, jnp.where(base == -1, jnp.where(odd, -1, 1), 0)).astype(base.dtype)
    return jnp.where(exponent < 0, inverse, result)


@kernel(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def pow(self: Any, exponent: Any) -> Array:
    """Raise `self` to the power of `exponent`, integers exactly (torch-mlir computes them as floats)."""
    x, y = promoted(self, exponent)
    return _integer_power(x, y) if is_exact(x) else jnp.power(x, y)


@kernel(prims.pow.default)
def prims_pow(self: Any, other: Any) -> Array:
    """Raise to a power of the same dtype."""
    return pow(self, other)


@kernel(aten.pow.Tensor_Scalar)
def pow_scalar(self: Array, exponent: float) -> Array:
    """Raise `self` to a constant power: small integers by multiplications, 0.5 by a square root.

    Raises NotImplementedError for negative powers of unsigned integers and for an exponent that overflows the integer
    dtype; eager PyTorch refuses both.
    """
    x, y = promoted(self, exponent)
    if is_exact(x):
        if exponent >= 0:
            checked_number(exponent, x.dtype)
            return lax.integer_pow(x, int(exponent))
        if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
            raise NotImplementedError("integers to negative integer powers; eager PyTorch refuses them too")
        return _integer_power(x, y)
    if isinstance(exponent, int | float) and float(exponent).is_integer() and abs(exponent) <= 4:
        return lax.integer_pow(x, int(exponent))
    if exponent == 0.5:
        return jnp.sqrt(x)
    if exponent == -0.5 and not jnp.iscomplexobj(x):
        return lax.rsqrt(x)
    return jnp.power(x, y)


@kernel(aten.bitwise_left_shift.Tensor, aten.bitwise_left_shift.Tensor_Scalar, aten.bitwise_left_shift.Scalar_Tensor)
def bitwise_left_shift(self: Any, other: Any) -> Array:
    """Shift bits to the left; a shift outside [0, width) gives 0, as in PyTorch."""
    x, y = _matched(self, other)
    return lax.shift_left(x, y)


@kernel(aten.bitwise_right_shift.Tensor, aten.bitwise_right_shift.Tensor_Scalar, aten.bitwise_right_shift.Scalar_Tensor)
def bitwise_right_shift(self: Any, other: Any) -> Array:
    """Shift bits to the right, keeping the sign; a shift outside [0, width) gives 0 or -1, as in PyTorch."""
    return shift_right(self, other)


@kernel(prims.shift_left.default, aten.__lshift__.Tensor, aten.__lshift__.Scalar)
def shift_left(self: Array, other: Any) -> Array:
    """Shift bits to the left; a shift outside [0, width) gives 0."""
    return bitwise_left_shift(self, other)


@kernel(prims.shift_right_arithmetic.default, aten.__rshift__.Tensor, aten.__rshift__.Scalar)
def shift_right(self: Array, other: Any) -> Array:
    """Shift bits to the right, keeping the sign; a shift outside [0, width) gives 0 or -1."""
    x, y = _matched(self, other)
    unsigned = jnp.issubdtype(x.dtype, jnp.unsignedinteger)
    return lax.shift_right_logical(x, y) if unsigned else lax.shift_right_arithmetic(x, y)


def _bounded(x: Array, bound: Any) -> tuple[Array, Array]:
    """Promote values and a bound to one dtype; NotImplementedError where that dtype cannot hold the bound."""
    value, limit = promoted(x, bound)
    return value, limit if isinstance(bound, Array) else jnp.asarray(checked_number(bound, value.dtype))


def _clamped(x: Array, low: Any, high: Any) -> Array:
    if low is not None:
        x = jnp.maximum(*_bounded(x, low))
    if high is not None:
        x = jnp.minimum(*_bounded(x, high))
    return x


@kernel(aten.clamp.default, aten.clamp.Tensor)
def clamp(self: Array, min: Any = None, max: Any = None) -> Array:
    """Limit values to [min, max]; nan in values or bounds stays, and where min > max the result is max."""
    return _clamped(self, min, max)


@kernel(aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(self: Array, min: Any) -> Array:
    """Return the larger of each value and `min`; nan stays."""
    return _clamped(self, min, None)


@kernel(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(self: Array, max: Any) -> Array:
    """Return the smaller of each value and `max`; nan stays."""
    return _clamped(self, None, max)


@kernel(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(self: Array, other: Any, alpha: Any = 1) -> Array:
    """Return other - alpha * self."""
    x, y = promoted(self, other)
    return y - checked_number(alpha, x.dtype) * x


@kernel(prims.frexp.default, aten.frexp.Tensor)
def frexp(self: Array) -> tuple[Array, Array]:
    """Split into a mantissa, whose size is in [0.5, 1), and an int32 exponent of two."""
    mantissa, exponent = jnp.frexp(self)
    return mantissa, exponent


@kernel(aten.where.self)
def where_self(condition: Array, self: Array, other: Array) -> Array:
    """Select from `self` where the condition is true, else from `other`, in their promoted dtype."""
    return jnp.where(condition, *promoted(self, other))


@kernel(prims.where.default)
def where(pred: Array, a: Any, b: Any) -> Array:
    """Select from `a` where the predicate is true, else from `b`, in their promoted dtype."""
    return jnp.where(pred, *promoted(a, b))
