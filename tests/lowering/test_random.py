"""Random numbers: they follow torch.manual_seed, differ from call to call, and have the distribution they claim."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.sampled(2)

COUNT = 20_000
# A sound generator fails one test in a million; the seed is fixed, so a test that passes goes on passing.
LEVEL = 1e-6


def drawn(function, seed: int = 0):
    torch._dynamo.reset()
    torch.manual_seed(seed)
    return torch.compile(function, backend="tpu", fullgraph=True)()


CONTINUOUS = {
    "rand": (lambda: torch.rand(COUNT), stats.uniform()),
    "rand-float64": (lambda: torch.rand(COUNT, dtype=torch.float64), stats.uniform()),
    "randn": (lambda: torch.randn(COUNT), stats.norm()),
    "normal": (lambda: torch.normal(torch.full((COUNT,), 3.0), 2.0), stats.norm(3, 2)),
    "uniform_": (lambda: torch.empty(COUNT).uniform_(-2, 5), stats.uniform(-2, 7)),
    "exponential_": (lambda: torch.empty(COUNT).exponential_(2.0), stats.expon(scale=0.5)),
    "cauchy_": (lambda: torch.empty(COUNT).cauchy_(1.0, 2.0), stats.cauchy(1, 2)),
    "log_normal_": (lambda: torch.empty(COUNT).log_normal_(0.5, 0.25), stats.lognorm(0.25, scale=math.exp(0.5))),
    "gamma": (lambda: torch._standard_gamma(torch.full((COUNT,), 2.5)), stats.gamma(2.5)),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name):
    function, distribution = CONTINUOUS[name]
    assert stats.kstest(drawn(function).double().numpy(), distribution.cdf).pvalue > LEVEL


DISCRETE = {
    "randint": (lambda: torch.randint(3, 10, (COUNT,)), stats.randint(3, 10)),
    "bernoulli": (lambda: torch.bernoulli(torch.full((COUNT,), 0.3)), stats.bernoulli(0.3)),
    "geometric_": (lambda: torch.empty(COUNT).geometric_(0.25), stats.geom(0.25)),
    "poisson": (lambda: torch.poisson(torch.full((COUNT,), 4.0)), stats.poisson(4)),
    "binomial": (lambda: torch.binomial(torch.full((COUNT,), 9.0), torch.full((COUNT,), 0.4)), stats.binom(9, 0.4)),
    "multinomial": (lambda: torch.multinomial(torch.tensor([1.0, 0.0, 3.0, 2.0, 4.0]), COUNT, replacement=True), None),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_distributions(name):
    function, distribution = DISCRETE[name]
    values, counts = drawn(function).long().unique(return_counts=True)
    if distribution is None:
        expected = torch.tensor([1.0, 0.0, 3.0, 2.0, 4.0])[values] / 10 * COUNT
        assert 1 not in values
    else:
        expected = torch.tensor(distribution.pmf(values.numpy())) * COUNT
    often = expected > 5
    statistic = ((counts - expected) ** 2 / expected)[often].sum().item()
    assert stats.chi2.sf(statistic, int(often.sum()) - 1) > LEVEL


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_uniform_numbers_are_below_one_in_every_format(dtype):
    values = drawn(lambda: torch.rand(100_000, dtype=dtype))
    assert values.dtype == dtype
    assert float(values.max()) < 1
    assert float(values.min()) >= 0
    assert abs(float(values.double().mean()) - 0.5) < 0.01


def test_permutations_hold_every_number_once():
    assert drawn(lambda: torch.randperm(1000)).sort().values.tolist() == list(range(1000))


def test_drawing_without_putting_back_never_repeats():
    rows = drawn(lambda: torch.multinomial(torch.ones(50, 20), 20))
    assert torch.equal(rows.sort(dim=1).values, torch.arange(20).expand(50, 20))


def test_numbers_follow_the_seed_and_differ_from_call_to_call():
    compiled = torch.compile(lambda x: (torch.rand_like(x), torch.rand_like(x)), backend="tpu", fullgraph=True)
    x = torch.empty(100)
    torch.manual_seed(7)
    first, second = compiled(x), compiled(x)
    torch.manual_seed(7)
    again = compiled(x)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    draws = [*first, *second]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_the_state_of_the_generator_can_be_kept_and_put_back():
    compiled = torch.compile(lambda: torch.randn(10), backend="tpu")
    state = torch.get_rng_state()
    first = compiled()
    torch.set_rng_state(state)
    assert torch.equal(compiled(), first)


def test_dropout_keeps_the_expected_share_and_scale():
    kept = drawn(lambda: F.dropout(torch.ones(COUNT), 0.2, True))
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert stats.binomtest(int((kept > 0).sum()), COUNT, 0.8).pvalue > LEVEL


def test_the_gradient_of_dropout_uses_the_mask_of_the_forward():
    x = torch.randn(1000, requires_grad=True)
    out = torch.compile(lambda x: F.dropout(x, 0.5, True), backend="tpu")(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, torch.where(out == 0, 0.0, 2.0))


def test_a_recomputed_forward_draws_the_same_numbers():
    weight = torch.randn(16, 16, requires_grad=True)
    x = torch.randn(8, 16)

    def block(x, w):
        return F.dropout(torch.sin(x @ w), 0.5, True)

    def gradient(function):
        torch._dynamo.reset()
        torch.manual_seed(3)
        out = torch.compile(function, backend="tpu", fullgraph=True)(x, weight)
        return torch.autograd.grad(out, weight)[0]

    plain = gradient(lambda x, w: block(x, w).sum())
    recomputed = gradient(lambda x, w: checkpoint(block, x, w, use_reentrant=False).sum())
    torch.testing.assert_close(recomputed, plain)


def test_dropout_in_evaluation_is_nothing(matches_eager):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    matches_eager(model, torch.randn(3, 4))


def test_a_generator_that_is_passed_is_refused():
    generator = torch.Generator()
    with pytest.raises(Exception, match="enerator"):
        torch.compile(lambda: torch.rand(3, generator=generator), backend="tpu", fullgraph=True)()


def test_a_loop_draws_other_numbers_in_each_round():
    def fill(rows):
        def body(i, rows):
            return i + 1, torch.cat([rows[1:], torch.rand(1, 8) + torch.randn(1, 8).sign() * 2])

        return while_loop(lambda i, rows: i < 4, body, (torch.tensor(0), rows))[1]

    compiled = torch.compile(fill, backend="tpu", fullgraph=True)
    torch.manual_seed(0)
    drawn, again = compiled(torch.zeros(4, 8)), compiled(torch.zeros(4, 8))
    assert len({*drawn.flatten().tolist(), *again.flatten().tolist()}) == 64
    torch.manual_seed(0)
    assert torch.equal(compiled(torch.zeros(4, 8)), drawn)
