"""Loops that end on a value: extreme integers, infinities, nan and huge numbers end them, with eager's results."""

from __future__ import annotations

import faulthandler
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.lowering.graphs import traced
from tpu_dynamo_lowering import lower

pytestmark = pytest.mark.sampled(2)

NAN, INF = float("nan"), float("inf")
REALS = [torch.float32, torch.float64]
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8]


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A loop that never ends cannot be interrupted: the process says where it is, and ends."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def pairs(values: list, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every value with every other."""
    left, right = zip(*itertools.product(values, values), strict=True)
    return torch.tensor(left, dtype=dtype), torch.tensor(right, dtype=dtype)


def extremes(dtype: torch.dtype) -> list[int]:
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    signed = [-1, -3, -6, low // 2] if low else []
    return [low, low + 1, 0, 1, 2, 3, 5, 6, 60, 90, high - 1, high, *signed]


def compiled(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    torch._dynamo.reset()
    return torch.compile(function, backend="tpu", fullgraph=True)(*args)


def agree(function: Callable[..., Tensor], *args: Tensor, where: Tensor | None = None) -> None:
    """Compiled and eager give the same; `where` are the places at which eager's value is a number that means it."""
    actual, expected = compiled(function, *args), function(*args)
    where = torch.ones_like(expected, dtype=torch.bool) if where is None else where
    torch.testing.assert_close(actual[where], expected[where], equal_nan=True)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_divisors_of_extreme_integers(dtype):
    x, y = pairs(extremes(dtype), dtype)
    agree(torch.gcd, x, y)
    if dtype.itemsize > 2:  # eager divides the least integer by -1, which ends the process
        low = torch.iinfo(dtype).min
        x, y = x[(x != low) & (y != low)], y[(x != low) & (y != low)]
    agree(torch.lcm, x, y)


@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), dtype=st.sampled_from(INTEGERS))
def test_the_greatest_common_divisor_of_any_integers(data, dtype):
    bound = torch.iinfo(dtype)
    numbers = st.lists(st.integers(bound.min, bound.max), min_size=12, max_size=12)
    agree(torch.gcd, *(torch.tensor(data.draw(numbers), dtype=dtype) for _ in range(2)))


GAMMA = [-INF, INF, NAN, 0.0, -0.0, -1.0, 0.3, 1.0, 2.5, 19.0, 20.0, 20.5, 26.0, 30.0, 100.0, 110.0, 1000.0, 1050.0,
         1e4, 1.001e4, 1e6, 1.0001e6, 1e16, 1e30, 3e38, -1e30]  # fmt: skip


def incomplete_gammas(shape: Tensor, end: Tensor) -> Tensor:
    return torch.stack([torch.igamma(shape, end), torch.igammac(shape, end)])


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_incomplete_gamma_functions_of_special_values(dtype):
    agree(incomplete_gammas, *pairs(GAMMA, dtype))
    shape = torch.exp(torch.rand(676, dtype=torch.float64) * 20)
    end = (shape + shape.sqrt() * torch.randn(676, dtype=torch.float64)).clamp_min(0).to(dtype)
    shape = shape.to(dtype)
    # Eager in float32 is less exact for large shapes than in float64.
    expected = incomplete_gammas(shape.double(), end.double()).to(dtype)
    torch.testing.assert_close(compiled(incomplete_gammas, shape, end), expected)


ZETA = [-INF, INF, NAN, 0.0, -0.0, 1.0, 2.0, 3.0, 2.5, 0.5, -1.0, -0.5, -1.25, -3.75, -100.5, 20.0, 50.0, 101.0, 1e6,
        1e6 + 0.5, -1e4 + 0.25, -1e30]  # fmt: skip


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_zeta_and_polygamma_of_special_values(dtype):
    agree(torch.special.zeta, *pairs(ZETA, dtype))
    x = torch.tensor(ZETA, dtype=dtype)
    agree(lambda x: torch.stack([torch.polygamma(n, x) for n in (0, 1, 2, 3, 8)]), x)
    agree(lambda x: torch.stack([torch.special.zeta(x, 2.5), torch.special.zeta(3.0, x)]), x)


def test_zeta_far_below_zero_takes_no_steps():
    """Eager adds a million million terms; between poles the value repeats, but for a rest that is too small to see."""
    far = torch.tensor([-(2.0**40) + 0.25, -(2.0**50) + 0.75], dtype=torch.float64)
    near = torch.tensor([-(2.0**12) + 0.25, -(2.0**12) + 0.75], dtype=torch.float64)
    actual = compiled(lambda x: torch.polygamma(3, x), far)
    torch.testing.assert_close(actual, torch.polygamma(3, near))


POLYNOMIALS = sorted(name for name in dir(torch.special) if "_polynomial_" in name)
ARGUMENTS = [0.5, -2.0, 0.0, INF, 1.0, -1.0, 0.9999, -0.3, 1.0001, -1.0001, 3e38]
DEGREES = [INF, NAN, -INF, 1e30, -1e30, 2.7, -0.5, 1e19, 2.0**63, 0, 1, 2, 5, 9, 40, 130, 600]


def every_polynomial(x: Tensor, n: Tensor) -> Tensor:
    return torch.stack([getattr(torch.special, name)(x, n) for name in POLYNOMIALS])


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_polynomials_of_degrees_that_are_no_numbers(dtype):
    x, n = zip(*itertools.product(ARGUMENTS, DEGREES), strict=True)
    x, n = torch.tensor(x, dtype=dtype), torch.tensor(n, dtype=dtype)
    actual, expected = compiled(every_polynomial, x, n), every_polynomial(x, n)
    # Recurrences and closed forms of degree 600 lose three digits.
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=1e-3, atol=1e-4)


def test_polynomials_of_large_degrees_are_those_that_steps_give():
    x = torch.tensor([0.5, -0.3, 0.999999, 1 + 1e-9, -1 - 1e-9, 1e-3, 3.0, 30.0, 100.0, 1.1], dtype=torch.float64)
    n = torch.full_like(x, 1_100_000)
    n[1] += 1
    torch.testing.assert_close(
        compiled(every_polynomial, x, n), every_polynomial(x, n), equal_nan=True, rtol=1e-4, atol=1e-7
    )
    assert compiled(every_polynomial, x, torch.full_like(x, 2.0**62)).shape == (len(POLYNOMIALS), len(x))


def test_draws_of_special_parameters_end():
    count = torch.tensor([INF, INF, INF, NAN, 5, 5, 5, 5, -1, 2.5, 0, -INF])
    prob = torch.tensor([0, 1, 0.5, 0.5, NAN, 0, 1, 2, 0.5, 1, 0.5, 0.5])
    drawn = compiled(torch.binomial, count, prob)
    certain = torch.tensor([0, INF, INF, NAN, NAN, 0, 5, 5, 0, 2.5, 0, 0])
    torch.testing.assert_close(drawn, certain, equal_nan=True)
    special = torch.tensor([INF, NAN, -1.0, -INF, 0.0, -0.0, -2 / 3, -0.66666, -0.7, 1e30, 3e38, 5.0])
    for draw in (torch.poisson, torch._standard_gamma, torch._sample_dirichlet, torch.bernoulli):
        assert compiled(draw, special).shape == special.shape


DECOMPOSITIONS = {
    "svd": lambda a: torch.linalg.svd(a)[0],
    "svdvals": torch.linalg.svdvals,
    "eigh": lambda a: torch.linalg.eigh(a)[1],
    "eigvalsh": torch.linalg.eigvalsh,
    "eig": lambda a: torch.linalg.eig(a)[1].real,
    "eigvals": lambda a: torch.linalg.eigvals(a).real,
    "pinv": torch.linalg.pinv,
    "inv": lambda a: torch.linalg.inv_ex(a)[0],
    "matrix_exp": torch.linalg.matrix_exp,
    "qr": lambda a: torch.linalg.qr(a)[1],
}


def test_decompositions_of_matrices_that_are_not_finite_end_and_show_it():
    whole = torch.randn(5, 5)
    for bad in (NAN, INF):
        broken = whole.clone()
        broken[2, 1] = broken[1, 2] = bad
        batch = torch.stack([whole, broken])
        found = compiled(lambda a: torch.cat([f(a).reshape(2, -1) for f in DECOMPOSITIONS.values()], 1), batch)
        assert found[0].isfinite().all()
        each = compiled(lambda a: torch.stack([f(a).isnan().any() for f in DECOMPOSITIONS.values()]), broken)
        assert each.all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_matrices_of_huge_norms(dtype):
    matrix = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=dtype)
    for size in (1e20, 1e38):
        agree(torch.linalg.matrix_exp, matrix * size)
        agree(torch.linalg.eigvals, torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=dtype) * size)


def test_loops_that_end_on_values_trace_for_a_tpu():
    def everything(x: Tensor, n: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        return (
            torch.gcd(n, n + 1), torch.lcm(n, n + 1), torch.igamma(x, x), torch.special.zeta(x, x),
            every_polynomial(x, x), torch.binomial(x, x), torch.poisson(x), torch._standard_gamma(x),
            *torch.linalg.eigh(a), torch.linalg.matrix_exp(a),
        )  # fmt: skip

    graph = traced(everything, torch.ones(3), torch.ones(3, dtype=torch.int64), torch.ones(4, 4))
    assert lower(graph, {}, platform="tpu").stablehlo
