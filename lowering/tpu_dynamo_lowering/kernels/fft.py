"""Fourier transforms: complex to complex, real to half or whole spectra, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel

aten = torch.ops.aten
prims = torch.ops.prims


def _factor(extents: Sequence[int], normalization: int) -> float:
    """Return ATen's normalisation factor: 0 none, 1 by the root of the number of points, 2 by their number."""
    points = math.prod(extents)
    return (1.0, 1 / math.sqrt(points), 1 / points)[normalization] if normalization else 1.0


def _scaled(value: Array, factor: float) -> Array:
    return value if factor == 1.0 else value * jnp.asarray(factor, value.real.dtype)


def _complex_transform(value: Array, dims: Sequence[int], forward: bool) -> Array:
    """Transform complex values forward or back, without a normalisation factor."""
    if not dims or value.size == 0:
        return value
    if forward:
        return jnp.fft.fftn(value, axes=tuple(dims), norm="backward")
    return jnp.fft.ifftn(value, axes=tuple(dims), norm="forward")


@kernel(aten._fft_c2c.default)
def fft_c2c(self: Array, dim: Sequence[int], normalization: int, forward: bool) -> Array:
    """Transform complex values over the dimensions `dim`, forward or back.

    normalization: 0 none, 1 by the root of the number of points, 2 by their number. Source: ATen `_fft_c2c`.
    """
    return _scaled(_complex_transform(self, dim, forward), _factor([self.shape[d] for d in dim], normalization))


def _real_transform(value: Array, dims: Sequence[int], onesided: bool) -> Array:
    if value.size == 0 or not onesided:
        wanted = jnp.result_type(value.dtype, jnp.complex64)
        spectrum = _complex_transform(value.astype(wanted), dims, True)
        return spectrum[_first_half(value, dims[-1])] if onesided else spectrum
    return jnp.fft.rfftn(value, axes=tuple(dims), norm="backward")


def _first_half(value: Array, dim: int) -> tuple[slice, ...]:
    dim %= value.ndim
    return (slice(None),) * dim + (slice(0, value.shape[dim] // 2 + 1),)


@kernel(aten._fft_r2c.default)
def fft_r2c(self: Array, dim: Sequence[int], normalization: int, onesided: bool) -> Array:
    """Transform real values over the dimensions `dim`; one-sided, the last keeps only places 0 to size // 2.

    normalization: as in _fft_c2c. Source: ATen `_fft_r2c`.
    """
    return _scaled(_real_transform(self, dim, onesided), _factor([self.shape[d] for d in dim], normalization))


def _inverse_real_transform(value: Array, dims: Sequence[int], last_dim_size: int) -> Array:
    """Transform a half spectrum back without a factor; its first and middle imaginary parts are ignored."""
    value = _complex_transform(value, dims[:-1], False)
    return jnp.fft.irfft(value, n=last_dim_size, axis=dims[-1], norm="forward")


@kernel(aten._fft_c2r.default)
def fft_c2r(self: Array, dim: Sequence[int], normalization: int, last_dim_size: int) -> Array:
    """Transform a half spectrum over `dim` back to real values, `last_dim_size` along the last of them.

    normalization: as in _fft_c2c. Source: ATen `_fft_c2r`.
    """
    extents = [self.shape[d] for d in dim[:-1]] + [last_dim_size]
    return _scaled(_inverse_real_transform(self, dim, last_dim_size), _factor(extents, normalization))


@kernel(prims.fft_c2c.default)
def prims_fft_c2c(self: Array, *, dim: Sequence[int], forward: bool) -> Array:
    """Transform complex values over dimensions, without a normalisation factor."""
    return _complex_transform(self, dim, forward)


@kernel(prims.fft_r2c.default)
def prims_fft_r2c(self: Array, *, dim: Sequence[int], onesided: bool) -> Array:
    """Transform real values over dimensions, without a normalisation factor."""
    return _real_transform(self, dim, onesided)


@kernel(prims.fft_c2r.default)
def prims_fft_c2r(self: Array, *, dim: Sequence[int], last_dim_size: int) -> Array:
    """Transform a half spectrum back to real values, without a normalisation factor."""
    return _inverse_real_transform(self, dim, last_dim_size)


@kernel(aten.fft_fftfreq.default)
def fft_fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the frequencies of a transform of `n` points with spacing `d`, the negative ones last."""
    return jnp.fft.fftfreq(n, d)


@kernel(aten.fft_rfftfreq.default)
def fft_rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the non-negative frequencies of a transform of `n` points with spacing `d`."""
    return jnp.fft.rfftfreq(n, d)
