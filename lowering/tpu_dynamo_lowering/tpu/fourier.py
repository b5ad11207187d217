"""Fourier transforms as matrix products, for dtypes and sizes that XLA has no good transform for on a TPU.

XLA transforms float32 alone. A length is cut into factors (Cooley and Tukey's algorithm, a product with a small matrix
for each), and a large prime is a convolution of a length that is a power of two (Bluestein's algorithm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# A factor up to which a transform is one product with a matrix: as wide as the chips' matrix units.
_MATRIX = 128
# A prime up to which that costs less than three transforms of twice its length.
_PRIME = 512

# A complex array by its real and imaginary parts; no imaginary part for a real one.
Parts = tuple[Array, Array | None]


def _both(x: Parts) -> tuple[Array, Array]:
    real, imaginary = x
    return real, jnp.zeros_like(real) if imaginary is None else imaginary


# The longest power of two whose transform XLA compiles in seconds.
_LONGEST = 2**14


def is_for_xla(length: int) -> bool:
    """Return True if XLA's own transform of float32 is as quick for a length as the one here."""
    return length <= _MATRIX or (length <= _LONGEST and length.bit_count() == 1)


def _roots(exponents: np.ndarray[Any, Any], n: int, dtype: Any) -> tuple[Array, Array]:
    """Compute both parts of exp(-2 pi i e / n), correctly rounded: the exponents are reduced before."""
    angles = 2 * np.pi * ((exponents % n) / n)
    return jnp.asarray(np.cos(angles), dtype), jnp.asarray(-np.sin(angles), dtype)


def _times(x: Parts, root: tuple[Array, Array]) -> Parts:
    cosine, sine = root
    real, imaginary = x
    if imaginary is None:
        return real * cosine, real * sine
    return real * cosine - imaginary * sine, real * sine + imaginary * cosine


def _matrix(x: Parts, n: int) -> Parts:
    """Transform the last dimension but one, by the matrix of all roots."""
    place = np.arange(n, dtype=np.int64)
    cosine, sine = _roots(np.outer(place, place), n, x[0].dtype)

    def product(matrix: Array, part: Array) -> Array:
        return jnp.matmul(matrix, part, precision=lax.Precision.HIGHEST)

    real, imaginary = x
    if imaginary is None:
        return product(cosine, real), product(sine, real)
    return (
        product(cosine, real) - product(sine, imaginary),
        product(sine, real) + product(cosine, imaginary),
    )


def _largest_factor(n: int) -> int:
    """Return the largest factor of n up to _MATRIX, else its least prime factor."""
    small = max(d for d in range(1, min(n, _MATRIX) + 1) if n % d == 0)
    return small if small > 1 else next((d for d in range(_MATRIX + 1, math.isqrt(n) + 1) if n % d == 0), n)


def _map(x: Parts, change: Any) -> Parts:
    return change(x[0]), None if x[1] is None else change(x[1])


def _transform(x: Parts) -> Parts:
    """Compute the forward transform of the last dimension, without any factor."""
    n = x[0].shape[-1]
    if n == 1:
        return x
    factor = n if n <= _MATRIX else _largest_factor(n)
    if factor == n:
        if n <= _PRIME:
            return _map(_matrix(_map(x, lambda part: part[..., None]), n), lambda part: part[..., 0])
        return _bluestein(x)
    rest = n // factor
    # x[a rest + b] is at [a, b]: transform over a, turn by root^(a' b), transform over b, and read as [b', a'].
    grid = _map(x, lambda part: part.reshape(*part.shape[:-1], factor, rest))
    if factor <= _PRIME:
        grid = _matrix(grid, factor)
    else:
        grid = _map(_transform(_map(grid, lambda part: part.swapaxes(-1, -2))), lambda part: part.swapaxes(-1, -2))
    grid = _transform(_twiddled(grid, factor, rest))
    return _map(grid, lambda part: part.swapaxes(-1, -2).reshape(*part.shape[:-2], n))


def _twiddled(grid: Parts, factor: int, rest: int) -> Parts:
    """Multiply [a, b] by root^(a b), by tables of about 2 a sqrt(b) roots where a table of a b would be large."""
    n = factor * rest
    row = np.arange(factor, dtype=np.int64)[:, None]
    dtype = grid[0].dtype
    if n <= 2**14:
        return _times(grid, _roots(row * np.arange(rest, dtype=np.int64), n, dtype))
    # b = c fine + d, so that the root is the product of one for c and one for d.
    fine = math.isqrt(rest)
    coarse = _roots(row * np.arange(0, rest, fine, dtype=np.int64), n, dtype)
    close = _roots(row * np.arange(fine, dtype=np.int64), n, dtype)
    turned = _times((coarse[0][:, :, None], coarse[1][:, :, None]), (close[0][:, None], close[1][:, None]))
    return _times(grid, _both(_map(turned, lambda part: part.reshape(factor, -1)[:, :rest])))


def _bluestein(x: Parts) -> Parts:
    """Compute the transform as a convolution with a chirp: j k = (j^2 + k^2 - (k - j)^2) / 2."""
    n = x[0].shape[-1]
    padded = 1 << (2 * n - 2).bit_length()
    chirp = _roots(np.arange(n, dtype=np.int64) ** 2, 2 * n, x[0].dtype)
    ends = [(0, 0)] * (x[0].ndim - 1) + [(0, padded - n)]
    turned = _map(_times(x, chirp), lambda part: jnp.pad(part, ends))
    # The conjugate chirp at -(n - 1) to n - 1, the negative places last.
    around = [jnp.concatenate((t, jnp.zeros(padded - 2 * n + 1, t.dtype), t[:0:-1])) for t in (chirp[0], -chirp[1])]
    spectrum, kernel = _transform(turned), _transform((around[0], around[1]))
    real, imaginary = _both(_times(spectrum, _both(kernel)))
    # Backward: the transform of swapped parts, swapped.
    imaginary, real = _both(_transform((imaginary, real)))
    return _times((real[..., :n] / padded, imaginary[..., :n] / padded), chirp)


def _along(x: Parts, axis: int) -> Parts:
    return _map(
        _transform(_map(x, lambda part: jnp.moveaxis(part, axis, -1))), lambda part: jnp.moveaxis(part, -1, axis)
    )


def _mirrored(half: Array, n: int) -> Array:
    """Complete a spectrum of length n from the half that determines it."""
    tail = jnp.conj(half[..., 1 : (n + 1) // 2][..., ::-1])
    return jnp.concatenate((half[..., : n // 2 + 1], tail), axis=-1)


def fft(value: Array, fft_type: str, lengths: Sequence[int]) -> Array:
    """Compute StableHLO's `fft` of the last dimensions: FFT, IFFT, RFFT or IRFFT, inverses with their factor."""
    axes = range(value.ndim - len(lengths), value.ndim)
    if fft_type == "RFFT":
        parts: Parts = (value, None)
        for axis in reversed(axes):
            parts = _along(parts, axis)
            if axis == value.ndim - 1:
                parts = _map(parts, lambda part: part[..., : lengths[-1] // 2 + 1])
    elif fft_type == "FFT":
        parts = (value.real, value.imag)
        for axis in axes:
            parts = _along(parts, axis)
    else:
        # Backward: the transform of swapped parts, swapped.
        parts = (value.imag, value.real)
        for axis in axes:
            if fft_type == "IRFFT" and axis == value.ndim - 1:
                imaginary, real = _both(parts)
                whole = _mirrored(lax.complex(real, imaginary), lengths[-1])
                parts = (whole.imag, whole.real)
            parts = _along(parts, axis)
        points = math.prod(lengths)
        imaginary, real = _both(_map(parts, lambda part: part / points))
        parts = (real, imaginary)
    return parts[0] if fft_type == "IRFFT" else lax.complex(*_both(parts))
