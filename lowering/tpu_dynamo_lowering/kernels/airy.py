"""Airy's function.

The coefficients are those of Cephes (Stephen L. Moshier, netlib.org/cephes: airy.c), which PyTorch uses in every dtype.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .bessel import as_real, polynomial

aten = torch.ops.aten

_DECAYING = (
    0.346538101525629, 12.007595273964581, 76.27960536152345, 168.08922493463058, 159.75639135016442,
    70.53609068404442, 14.026469116338967, 1.0,
)  # fmt: skip
_DECAYING_DENOMINATOR = (
    0.5675945326387702, 14.75625625848472, 84.51389701414746, 177.31808814540045, 164.2346928715297, 71.47784008255756,
    14.095913560783403, 1.0,
)  # fmt: skip
_SINE = (
    -0.1316963234183318, -0.6264565444319123, -0.6931580360369335, -0.2797799815451191, -0.04919001326095003,
    -0.004062659235948854, -0.0001592764962392621, -2.776491081552329e-06, -1.6778769848911465e-08,
)  # fmt: skip
_SINE_DENOMINATOR = (
    13.356042070655324, 32.682503279522464, 26.736704094149957, 9.187074029072596, 1.4752914677166642,
    0.11568717379518804, 0.004402916416152112, 7.547203482874142e-05, 4.5185009297058035e-07,
)  # fmt: skip
_COSINE = (
    0.01973399320916857, 0.39110302961568827, 1.0657989759959559, 0.9391692298166502, 0.35146565610554764,
    0.06338889196289255, 0.005858041130483885, 0.000282851600836737, 6.98793669997261e-06, 8.117892395543892e-08,
    3.415517847659236e-10,
)  # fmt: skip
_COSINE_DENOMINATOR = (
    9.30892908077442, 19.835292871831214, 15.564662893286462, 5.476860694229755, 0.9542936116189619,
    0.08645808263523921, 0.004126565238242226, 0.00010125908511650914, 1.1716673321441352e-06, 4.9183457006293e-09,
)  # fmt: skip

# Ai(0) and -Ai'(0).
_AT_ZERO = (0.3550280538878172, 0.2588194037928068)
# Ai underflows beyond.
_LARGEST = 103.892


def _series(x: Array) -> Array:
    """Sum 16 terms of Ai's Maclaurin series, which for |x| up to 2.09 reach double precision."""
    cube = x * x * x
    even = odd = even_total = odd_total = jnp.ones_like(x)
    for k in range(1, 17):
        even = even * cube / ((3 * k - 1) * (3 * k))
        odd = odd * cube / ((3 * k) * (3 * k + 1))
        even_total, odd_total = even_total + even, odd_total + odd
    return _AT_ZERO[0] * even_total - _AT_ZERO[1] * x * odd_total


@kernel(aten.special_airy_ai.default)
def airy_ai(x: Array) -> Array:
    """Compute the Airy function Ai; nan at both infinities, as in PyTorch.

    A series for |x| < 2.09, rational approximations of the oscillation below and of the decay above it.
    """
    x = as_real(x)
    size = jnp.abs(x)
    root = jnp.sqrt(size)
    argument = 2 * size * root / 3
    inverse = 1 / argument
    square = inverse * inverse
    sine = 1 + square * polynomial(square, _SINE) / polynomial(square, _SINE_DENOMINATOR)
    cosine = inverse * polynomial(square, _COSINE) / polynomial(square, _COSINE_DENOMINATOR)
    phase = argument + math.pi / 4
    waves = (jnp.sin(phase) * sine - jnp.cos(phase) * cosine) / (math.sqrt(math.pi) * jnp.sqrt(root))
    decay = polynomial(inverse, _DECAYING) / polynomial(inverse, _DECAYING_DENOMINATOR)
    decay = decay / (2 * math.sqrt(math.pi) * jnp.sqrt(root) * jnp.exp(argument))
    value = jnp.where(x < -2.09, waves, jnp.where(x < 2.09, _series(x), decay))
    value = jnp.where(x > _LARGEST, 0, value)
    return jnp.where(jnp.isinf(x), jnp.nan, value)
