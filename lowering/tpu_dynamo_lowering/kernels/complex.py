"""Complex numbers: building them, taking them apart, conjugation."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .elementwise import promoted

aten = torch.ops.aten
prims = torch.ops.prims


@kernel(aten.complex.default)
def complex(real: Array, imag: Array) -> Array:
    """Return complex numbers with the given real and imaginary parts."""
    return lax.complex(*jnp.broadcast_arrays(*_wide_parts(real, imag)))


def _wide_parts(x: Array, y: Array) -> tuple[Array, Array]:
    # XLA has no complex numbers of float16 parts: they are made in float32.
    x, y = promoted(x, y)
    return (x.astype(jnp.float32), y.astype(jnp.float32)) if x.dtype == jnp.float16 else (x, y)


@kernel(aten.polar.default)
def polar(abs: Array, angle: Array) -> Array:
    """Return complex numbers with the given absolute values and angles (in radians)."""
    size, angle = jnp.broadcast_arrays(*_wide_parts(abs, angle))
    return lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))


@kernel(aten.view_as_real.default)
def view_as_real(self: Array) -> Array:
    """Stack the real and imaginary parts along a new last dimension of size 2."""
    return jnp.stack((self.real, self.imag), axis=-1)


@kernel(aten.view_as_complex.default)
def view_as_complex(self: Array) -> Array:
    """Combine the last dimension, of size 2, into complex numbers."""
    return lax.complex(self[..., 0], self[..., 1])


@kernel(aten._conj.default, aten._conj_physical.default)
def conj(self: Array) -> Array:
    """Return the complex conjugate, computed at once: PyTorch's lazy conjugation does not exist inside a program."""
    return jnp.conj(self)


@kernel(aten.resolve_conj.default, aten.resolve_neg.default)
def resolve_conj(self: Array) -> Array:
    """Return the values unchanged: inside a program no conjugation or negation is pending."""
    return self


@kernel(prims.conj.default)
def prims_conj(a: Array) -> Array:
    """Return the complex conjugate."""
    return jnp.conj(a)


@kernel(aten._neg_view.default)
def neg_view(self: Array) -> Array:
    """Return the negative, computed at once: PyTorch's lazy negation does not exist inside a program."""
    return -self


@kernel(aten.real.default, prims.real.default)
def real(self: Array) -> Array:
    """Return the real parts."""
    return self.real


@kernel(aten.imag.default, prims.imag.default)
def imag(self: Array) -> Array:
    """Return the imaginary parts."""
    return self.imag
