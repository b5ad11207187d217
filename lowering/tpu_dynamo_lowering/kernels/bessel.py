"""Bessel functions of the first and second kind, modified and spherical ones.

The coefficients are those of Cephes (Stephen L. Moshier, netlib.org/cephes: j0.c, j1.c, k0.c, k1.c), which PyTorch
uses in every dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .arithmetic import is_exact
from .reductions import wide

aten = torch.ops.aten
prims = torch.ops.prims

# Each X with its X_DENOMINATOR is a rational approximation: the coefficients of two polynomials.

_LARGE0_P = (
    0.0007969367292973471, 0.08283523921074408, 1.239533716464143, 5.447250030587687, 8.74716500199817,
    5.303240382353949, 1.0,
)  # fmt: skip
_LARGE0_P_DENOMINATOR = (
    0.0009244088105588637, 0.08562884743544745, 1.2535274390105895, 5.470977403304171, 8.761908832370695,
    5.306052882353947, 1.0,
)  # fmt: skip
_LARGE0_Q = (
    -0.011366383889846916, -1.2825271867050931, -19.553954425773597, -93.20601521237683, -177.68116798048806,
    -147.07750515495118, -51.41053267665993, -6.050143506007285,
)  # fmt: skip
_LARGE0_Q_DENOMINATOR = (
    64.3178256118178, 856.4300259769806, 3882.4018360540163, 7240.467741956525, 5930.727011873169, 2062.0933166032783,
    242.0057402402914,
)  # fmt: skip
_J0 = (
    -4794432209.782018, 1956174919465.5657, -249248344360967.72, 9708622510473064.0,
)  # fmt: skip
_J0_DENOMINATOR = (
    499.563147152651, 173785.4016763747, 48440965.83399621, 11185553704.535683, 2112775201154.892, 310518229857422.56,
    3.1812195594320496e+16, 1.7108629408104315e+18,
)  # fmt: skip
_Y0 = (
    15592.436785523574, -14663929.59039716, 5435264770.518765, -982136065717.9115, 87590639439536.7,
    -3466283033847297.0, 4.4273326857256984e+16, -1.8495080043698668e+16,
)  # fmt: skip
_Y0_DENOMINATOR = (
    1041.2835366425984, 626107.330137135, 268919633.39381415, 86400248710.3935, 20297961275010.555, 3171577528429750.5,
    2.5059625617265306e+17,
)  # fmt: skip
_LARGE1_P = (
    0.0007621256162081731, 0.07313970569409176, 1.1271960812968493, 5.112079511468076, 8.424045901417724,
    5.214515986823615, 1.0,
)  # fmt: skip
_LARGE1_P_DENOMINATOR = (
    0.0005713231280725487, 0.06884559087544954, 1.105142326340617, 5.073863861286015, 8.399855543276042,
    5.209828486823619, 1.0,
)  # fmt: skip
_LARGE1_Q = (
    0.05108625947501766, 4.982138729512334, 75.82382841325453, 366.7796093601508, 710.8563049989261, 597.4896124006136,
    211.68875710057213, 25.207020585802372,
)  # fmt: skip
_LARGE1_Q_DENOMINATOR = (
    74.23732770356752, 1056.4488603826283, 4986.410583376536, 9562.318924047562, 7997.041604473507, 2826.1927851763908,
    336.0936078106983,
)  # fmt: skip
_J1 = (
    -899971225.7055594, 452228297998.19403, -72749424522181.83, 3682957328638529.0,
)  # fmt: skip
_J1_DENOMINATOR = (
    620.8364781180543, 256987.25675774884, 83514679.14319493, 22151159547.97925, 4749141220799.914, 784369607876235.9,
    8.952223361846274e+16, 5.322786203326801e+18,
)  # fmt: skip
_Y1 = (
    1263204747.9017804, -647355876379.1603, 114509511541823.73, -8127702555013251.0, 2.024394757135949e+17,
    -7.788771962659501e+17,
)  # fmt: skip
_Y1_DENOMINATOR = (
    594.3015923461282, 235564.09294306856, 73481194.44597217, 18760131610.870617, 3882312774962.3857,
    620557727146953.8, 6.871410873553005e+16, 3.9727060811656064e+18,
)  # fmt: skip
_K0_SMALL = (
    1.374465435613523e-16, 4.25981614279661e-14, 1.0349695257633842e-11, 1.904516377220209e-09, 2.5347910790261494e-07,
    2.286212103119452e-05, 0.001264615411446926, 0.0359799365153615, 0.3442898999246285, -0.5353273932339028,
)  # fmt: skip
_K0_LARGE = (
    5.300433772686263e-18, -1.6475804301524212e-17, 5.2103915050390274e-17, -1.678231096805412e-16,
    5.512055978524319e-16, -1.848593377343779e-15, 6.3400764774050706e-15, -2.2275133269916698e-14,
    8.032890775363575e-14, -2.9800969231727303e-13, 1.140340588208475e-12, -4.514597883373944e-12,
    1.8559491149547177e-11, -7.957489244477107e-11, 3.577397281400301e-10, -1.69753450938906e-09,
    8.574034017414225e-09, -4.660489897687948e-08, 2.766813639445015e-07, -1.8317555227191195e-06,
    1.39498137188765e-05, -0.00012849549581627802, 0.0015698838857300533, -0.0314481013119645, 2.4403030820659555,
)  # fmt: skip
_K1_SMALL = (
    -7.023863479386288e-18, -2.427449850519366e-15, -6.666901694199329e-13, -1.4114883926335278e-10,
    -2.213387630734726e-08, -2.4334061415659684e-06, -0.0001730288957513052, -0.006975723859639864,
    -0.12261118082265715, -0.3531559607765449, 1.5253002273389478,
)  # fmt: skip
_K1_LARGE = (
    -5.756744483665017e-18, 1.7940508731475592e-17, -5.689462558442859e-17, 1.838093544366639e-16,
    -6.057047248373319e-16, 2.038703165624334e-15, -7.019837090418314e-15, 2.4771544244813043e-14,
    -8.976705182324994e-14, 3.3484196660784293e-13, -1.2891739609510289e-12, 5.13963967348173e-12,
    -2.1299678384275683e-11, 9.218315187605006e-11, -4.1903547593418965e-10, 2.015049755197033e-09,
    -1.0345762465678097e-08, 5.7410841254500495e-08, -3.5019606030878126e-07, 2.406484947837217e-06,
    -1.936197974166083e-05, 0.00019521551847135162, -0.002857816859622779, 0.10392373657681724, 2.7206261904844427,
)  # fmt: skip

# The squares of the first two zeros of J0 and of J1.
_J0_ZEROS = (5.783185962946784, 30.471262343662086)
_J1_ZEROS = (14.681970642123893, 49.2184563216946)


def as_real(x: Array) -> Array:
    """Cast to the dtype that PyTorch computes in: float32 for integers and half precision."""
    return x.astype(jnp.float32) if is_exact(x) else wide(x)


def polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Evaluate a polynomial by Horner's rule; the highest power's coefficient comes first."""
    total = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _chebyshev(x: Array, coefficients: Sequence[float]) -> Array:
    """Evaluate a Chebyshev series on [-2, 2] by Clenshaw's recurrence; the highest degree's coefficient comes first."""
    before = now = jnp.zeros_like(x)
    last = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        before, now = now, last
        last = x * now - before + coefficient
    return (last - before) / 2


def _hankel(x: Array, order: int, second_kind: bool) -> Array:
    """Evaluate J or, for the second kind, Y of order 0 or 1 for x > 5, by Hankel's expansion."""
    tables = (
        (_LARGE0_P, _LARGE0_P_DENOMINATOR, _LARGE0_Q, _LARGE0_Q_DENOMINATOR),
        (_LARGE1_P, _LARGE1_P_DENOMINATOR, _LARGE1_Q, _LARGE1_Q_DENOMINATOR),
    )
    p, p_below, q, q_below = tables[order]
    square = 25 / (x * x)
    even = polynomial(square, p) / polynomial(square, p_below)
    odd = 5 / x * (polynomial(square, q) / polynomial(square, q_below))
    phase = x - (2 * order + 1) * math.pi / 4
    sine, cosine = jnp.sin(phase), jnp.cos(phase)
    wave = even * sine + odd * cosine if second_kind else even * cosine - odd * sine
    return wave * math.sqrt(2 / math.pi) / jnp.sqrt(x)


def _j0(x: Array) -> Array:
    x = jnp.abs(x)
    square = x * x
    near = (
        (square - _J0_ZEROS[0])
        * (square - _J0_ZEROS[1])
        * polynomial(square, _J0)
        / polynomial(square, _J0_DENOMINATOR)
    )
    near = jnp.where(x < 1e-5, 1 - square / 4, near)
    return jnp.where(x <= 5, near, _hankel(x, 0, False))


def _j1(x: Array) -> Array:
    size = jnp.abs(x)
    square = size * size
    near = polynomial(square, _J1) / polynomial(square, _J1_DENOMINATOR) * size
    near = near * (square - _J1_ZEROS[0]) * (square - _J1_ZEROS[1])
    value = jnp.where(size <= 5, near, _hankel(size, 1, False))
    return jnp.where(x < 0, -value, value)


def _right_of_pole(x: Array, value: Array, pole: float) -> Array:
    """Return `value` for x > 0, `pole` at zero and nan for x < 0."""
    return jnp.where(x == 0, pole, jnp.where(x < 0, jnp.nan, value))


@kernel(aten.special_bessel_j0.default, prims.bessel_j0.default)
def bessel_j0(self: Array) -> Array:
    """Compute the Bessel function J0: rational approximations for |x| up to 5, Hankel's expansion beyond."""
    return _j0(as_real(self))


@kernel(aten.special_bessel_j1.default, prims.bessel_j1.default)
def bessel_j1(self: Array) -> Array:
    """Compute the Bessel function J1: rational approximations for |x| up to 5, Hankel's expansion beyond."""
    return _j1(as_real(self))


@kernel(aten.special_bessel_y0.default)
def bessel_y0(self: Array) -> Array:
    """Compute the Bessel function of the second kind Y0; -inf at zero, nan below."""
    x = as_real(self)
    square = x * x
    near = polynomial(square, _Y0) / polynomial(square, _Y0_DENOMINATOR) + 2 / math.pi * jnp.log(x) * _j0(x)
    return _right_of_pole(x, jnp.where(x <= 5, near, _hankel(x, 0, True)), -jnp.inf)


@kernel(aten.special_bessel_y1.default)
def bessel_y1(self: Array) -> Array:
    """Compute the Bessel function of the second kind Y1; -inf at zero, nan below."""
    x = as_real(self)
    square = x * x
    near = x * (polynomial(square, _Y1) / polynomial(square, _Y1_DENOMINATOR))
    near = near + 2 / math.pi * (_j1(x) * jnp.log(x) - 1 / x)
    return _right_of_pole(x, jnp.where(x <= 5, near, _hankel(x, 1, True)), -jnp.inf)


@kernel(aten.special_modified_bessel_i0.default, aten.i0.default, prims.bessel_i0.default)
def bessel_i0(self: Array) -> Array:
    """Compute the modified Bessel function I0."""
    return jax.scipy.special.i0(as_real(self))


@kernel(aten.special_i0e.default, prims.bessel_i0e.default)
def bessel_i0e(self: Array) -> Array:
    """Compute exp(-|x|) times the modified Bessel function I0."""
    return jax.scipy.special.i0e(as_real(self))


@kernel(aten.special_modified_bessel_i1.default, aten.special_i1.default, prims.bessel_i1.default)
def bessel_i1(self: Array) -> Array:
    """Compute the modified Bessel function I1."""
    return jax.scipy.special.i1(as_real(self))


@kernel(aten.special_i1e.default, prims.bessel_i1e.default)
def bessel_i1e(self: Array) -> Array:
    """Compute exp(-|x|) times the modified Bessel function I1."""
    return jax.scipy.special.i1e(as_real(self))


def _k0(x: Array) -> tuple[Array, Array]:
    """Return K0(x), valid for x up to 2, and K0(x) * exp(x), valid beyond."""
    near = _chebyshev(x * x - 2, _K0_SMALL) - jnp.log(x / 2) * jax.scipy.special.i0(x)
    return near, _chebyshev(8 / x - 2, _K0_LARGE) / jnp.sqrt(x)


def _k1(x: Array) -> tuple[Array, Array]:
    """Return K1(x), valid for x up to 2, and K1(x) * exp(x), valid beyond."""
    near = jnp.log(x / 2) * jax.scipy.special.i1(x) + _chebyshev(x * x - 2, _K1_SMALL) / x
    return near, _chebyshev(8 / x - 2, _K1_LARGE) / jnp.sqrt(x)


def _joined(x: Array, parts: tuple[Array, Array]) -> Array:
    return _right_of_pole(x, jnp.where(x <= 2, parts[0], jnp.exp(-x) * parts[1]), jnp.inf)


def _joined_scaled(x: Array, parts: tuple[Array, Array]) -> Array:
    return _right_of_pole(x, jnp.where(x <= 2, parts[0] * jnp.exp(x), parts[1]), jnp.inf)


@kernel(aten.special_modified_bessel_k0.default)
def modified_bessel_k0(self: Array) -> Array:
    """Compute the modified Bessel function K0; infinity at zero, nan below."""
    x = as_real(self)
    return _joined(x, _k0(x))


@kernel(aten.special_modified_bessel_k1.default)
def modified_bessel_k1(self: Array) -> Array:
    """Compute the modified Bessel function K1; infinity at zero, nan below."""
    x = as_real(self)
    return _joined(x, _k1(x))


@kernel(aten.special_scaled_modified_bessel_k0.default)
def scaled_modified_bessel_k0(x: Array) -> Array:
    """Compute exp(x) times the modified Bessel function K0; infinity at zero, nan below."""
    x = as_real(x)
    return _joined_scaled(x, _k0(x))


@kernel(aten.special_scaled_modified_bessel_k1.default)
def scaled_modified_bessel_k1(x: Array) -> Array:
    """Compute exp(x) times the modified Bessel function K1; infinity at zero, nan below."""
    x = as_real(x)
    return _joined_scaled(x, _k1(x))


def _spherical_j0(x: Array) -> Array:
    series = [1.0 / math.factorial(2 * k + 1) * (-1) ** k for k in range(6, -1, -1)]
    near = polynomial(x * x, series)
    return jnp.where(jnp.isinf(x), 0, jnp.where(jnp.abs(x) < 0.5, near, jnp.sin(x) / x))


@kernel(aten.special_spherical_bessel_j0.default)
def spherical_bessel_j0(x: Array) -> Array:
    """Compute the spherical Bessel function j0, sin(x) / x, by its series near zero."""
    return _spherical_j0(as_real(x))


@kernel(prims.spherical_bessel_j0.default)
def prims_spherical_bessel_j0(self: Array) -> Array:
    """Compute the spherical Bessel function j0, sin(x) / x, by its series near zero."""
    return _spherical_j0(as_real(self))
