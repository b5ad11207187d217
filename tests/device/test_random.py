"""Every operator that draws, on the device: distributions and errors as eager, and the generator that it draws from."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.sampled(2)

COUNT = 2000
# A sound generator fails one test in a million; the seed is fixed, so a test that passes goes on passing.
LEVEL = 1e-6

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, *HALVES, torch.float64)
INTEGERS = (torch.int64, torch.uint8, torch.int8, torch.int16, torch.int32)
COMPLEX = (torch.complex64, torch.complex128)


def vector(device, dtype, value: float = 0.0):
    return torch.full((COUNT,), value, device=device, dtype=dtype)


# Functions of a device and a dtype, and the dtypes that eager PyTorch takes; CI takes the first of those in QUICK.
DRAWS = {
    "rand": (lambda d, t: torch.rand(COUNT, device=d, dtype=t), FLOATS + COMPLEX),
    "rand complex": (lambda d, t: torch.rand(COUNT, device=d, dtype=t), COMPLEX),
    "rand out": (lambda d, t: torch.rand(COUNT, out=vector(d, t)), FLOATS),
    "randn": (lambda d, t: torch.randn(COUNT, device=d, dtype=t), FLOATS + COMPLEX),
    "rand_like": (lambda d, t: torch.rand_like(vector(d, t)), FLOATS + COMPLEX),
    "randn_like": (lambda d, t: torch.randn_like(vector(d, t)), FLOATS + COMPLEX),
    "randint": (lambda d, t: torch.randint(9, (COUNT,), device=d, dtype=t), INTEGERS + FLOATS),
    "randint low": (lambda d, t: torch.randint(-5, 9, (COUNT,), device=d, dtype=t), (torch.int64, torch.int8)),
    "randint bool": (lambda d, t: torch.randint(2, (COUNT,), device=d, dtype=t), (torch.bool,)),
    "randint wide": (lambda d, t: torch.randint(-(2**63), 2**63 - 1, (COUNT,), device=d, dtype=t), (torch.int64,)),
    "randint_like": (lambda d, t: torch.randint_like(vector(d, t), 9), FLOATS + INTEGERS),
    "randint_like low": (lambda d, t: torch.randint_like(vector(d, t), 3, 9), FLOATS + INTEGERS),
    "randperm": (lambda d, t: torch.randperm(COUNT, device=d, dtype=t), (torch.int64, torch.int32, torch.float32)),
    "bernoulli": (lambda d, t: torch.bernoulli(vector(d, t, 0.3)), FLOATS),
    "bernoulli p": (lambda d, t: torch.bernoulli(vector(d, t), 0.3), (*FLOATS, *INTEGERS, torch.bool)),
    "bernoulli_": (lambda d, t: vector(d, t).bernoulli_(), (*FLOATS, *INTEGERS, torch.bool)),
    "bernoulli_ p": (lambda d, t: vector(d, t).bernoulli_(0.3), (torch.bool, *FLOATS, *INTEGERS)),
    "bernoulli_ tensor": (lambda d, t: vector(d, t).bernoulli_(vector(d, torch.float32, 0.3)), FLOATS + INTEGERS),
    "multinomial": (lambda d, t: torch.multinomial(torch.ones(300, 9, device=d, dtype=t), 5), FLOATS),
    "multinomial often": (lambda d, t: torch.multinomial(torch.tensor([1, 0, 3.0]).to(d, t), COUNT, True), FLOATS),
    "normal means": (lambda d, t: torch.normal(vector(d, t, 2.0), 3.0), FLOATS),
    "normal deviations": (lambda d, t: torch.normal(2.0, vector(d, t, 3.0)), FLOATS),
    "normal both": (lambda d, t: torch.normal(vector(d, t, 2.0), vector(d, t, 3.0)), FLOATS),
    "normal default": (lambda d, t: torch.normal(vector(d, t, 2.0)), FLOATS),
    "normal sizes": (lambda d, t: torch.normal(2.0, 3.0, (COUNT,), device=d, dtype=t), COMPLEX + FLOATS),
    "normal_": (lambda d, t: vector(d, t).normal_(), FLOATS + COMPLEX),
    "uniform_": (lambda d, t: vector(d, t).uniform_(), FLOATS),
    "uniform_ from to": (lambda d, t: vector(d, t).uniform_(-2, 5), FLOATS + COMPLEX),
    "uniform_ from": (lambda d, t: vector(d, t).uniform_(**{"from": 0.25}), FLOATS),
    "random_": (lambda d, t: vector(d, t).random_(), (*FLOATS, *INTEGERS, torch.bool)),
    "random_ to": (lambda d, t: vector(d, t).random_(100), INTEGERS + FLOATS),
    "random_ from to": (lambda d, t: vector(d, t).random_(10, 100), FLOATS + INTEGERS),
    "random_ from": (lambda d, t: vector(d, t).random_(10, None), (torch.int8, *FLOATS, *INTEGERS)),
    "aten.random.from": (lambda d, t: getattr(torch.ops.aten.random, "from")(vector(d, t), 3, 7), INTEGERS),
    "poisson": (lambda d, t: torch.poisson(vector(d, t, 4.0)), FLOATS),
    "binomial": (lambda d, t: torch.binomial(vector(d, t, 9.0), vector(d, t, 0.4)), FLOATS),
    "exponential_": (lambda d, t: vector(d, t).exponential_(), FLOATS),
    "geometric_": (lambda d, t: vector(d, t).geometric_(0.25), (torch.int64, *FLOATS)),
    "log_normal_": (lambda d, t: vector(d, t).log_normal_(), FLOATS),
    "cauchy_": (lambda d, t: vector(d, t).cauchy_(), FLOATS),
    "dropout": (lambda d, t: F.dropout(vector(d, t, 2.0)), FLOATS),
    "dropout p": (lambda d, t: F.dropout(vector(d, t, 2.0), 0.2, inplace=True), FLOATS + COMPLEX),
    "dropout of all": (lambda d, t: F.dropout(vector(d, t, 2.0), 1.0), FLOATS),
    "native_dropout": (lambda d, t: torch.native_dropout(vector(d, t, 2.0), 0.2, True)[0], FLOATS),
    "alpha_dropout": (lambda d, t: F.alpha_dropout(vector(d, t, 2.0), 0.2, True), FLOATS),
    "dropout2d": (lambda d, t: F.dropout2d(torch.ones(50, 40, 2, 2, device=d, dtype=t)), FLOATS),
    "rrelu": (lambda d, t: F.rrelu(vector(d, t, -2.0), training=True), (torch.float32, torch.float64)),
    "rrelu_": (lambda d, t: F.rrelu_(vector(d, t, -2.0), 0.1, 0.4, training=True), (torch.float32, torch.float64)),
    "fractional_max_pool2d": (
        lambda d, t: F.fractional_max_pool2d(torch.arange(256.0).to(d, t).view(1, 16, 16).expand(200, 16, 16), 3, 3),
        FLOATS,
    ),
    "gamma": (lambda d, t: torch.distributions.Gamma(vector(d, t, 2.5), vector(d, t, 2.0)).sample(), FLOATS[::3]),
    "dirichlet": (lambda d, t: torch._sample_dirichlet(vector(d, t, 2.0).view(-1, 2)), FLOATS[::3]),
    "categorical": (lambda d, t: torch.distributions.Categorical(logits=vector(d, t)).sample((9,)), FLOATS[::3]),
    "binomial distribution": (lambda d, t: torch.distributions.Binomial(9, vector(d, t, 0.3)).sample(), FLOATS[::3]),
    "gumbel_softmax": (lambda d, t: F.gumbel_softmax(vector(d, t).view(-1, 2)), FLOATS[::3]),
    "xavier_uniform_": (lambda d, t: nn.init.xavier_uniform_(vector(d, t).view(50, -1)), FLOATS),
    "trunc_normal_": (lambda d, t: nn.init.trunc_normal_(vector(d, t).view(50, -1)), FLOATS),
    "kaiming_normal_": (lambda d, t: nn.init.kaiming_normal_(vector(d, t).view(50, -1)), FLOATS),
}  # fmt: skip


QUICK = (
    "rand complex", "rand out", "randint", "randint bool", "randint_like low", "randperm", "bernoulli p", "bernoulli_",
    "bernoulli_ p", "multinomial", "normal sizes", "uniform_ from to", "random_", "random_ from to", "random_ from",
    "aten.random.from", "native_dropout",
)  # fmt: skip


def drawn(function, device: str, dtype, seed: int = 1):
    torch.manual_seed(seed)
    return function(device, dtype).cpu()


def flat(values):
    return (torch.view_as_real(values) if values.is_complex() else values).double().flatten().numpy()


def check(function, expected, dtype, device: str):
    """A draw has eager's kind and distribution, follows the seed and differs from call to call."""
    torch.manual_seed(1)
    first, second = function(device, dtype).cpu(), function(device, dtype).cpu()
    assert (first.dtype, first.shape) == (expected.dtype, expected.shape)
    assert torch.equal(drawn(function, device, dtype), first)
    if len(set(flat(expected))) > 1:
        assert not torch.equal(first, second)
    assert stats.ks_2samp(flat(first), flat(expected), method="asymp").pvalue > LEVEL


@pytest.mark.parametrize("name", QUICK)
def test_draws_are_as_eager_pytorchs(name):
    function, dtypes = DRAWS[name]
    check(function, drawn(function, "cpu", dtypes[0]), dtypes[0], "tpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [pytest.param(n, t, id=f"{n}-{t}") for n, (_, dtypes) in DRAWS.items() for t in dtypes]
)
def test_every_draw_in_every_dtype(name, dtype):
    function, _ = DRAWS[name]
    check(function, drawn(function, "cpu", dtype), dtype, "tpu")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "tpu"])
# Dynamo itself cannot write code for an overload of that name.
@pytest.mark.parametrize("name", [name for name in DRAWS if name != "aten.random.from"])
def test_every_draw_in_a_compiled_function(name, device):
    function, dtypes = DRAWS[name]
    compiled = torch.compile(lambda d, t: function(d, t), backend="tpu")
    check(compiled, drawn(function, "cpu", dtypes[0]), dtypes[0], device)


REFUSED = {
    "an empty range": lambda d: torch.randint(5, 5, (3,), device=d),
    "a reversed range": lambda d: torch.zeros(3, device=d).uniform_(3, 1),
    "a range beyond the dtype": lambda d: torch.zeros(3, dtype=torch.int8, device=d).random_(0, 1000),
    "a bool beyond one": lambda d: torch.randint(4, (3,), dtype=torch.bool, device=d),
    "a chance above one": lambda d: torch.zeros(3, device=d).bernoulli_(2),
    "no chance": lambda d: torch.zeros(3, device=d).geometric_(0),
    "a negative deviation": lambda d: torch.zeros(3, device=d).normal_(0, -1),
    "a negative rate": lambda d: torch.zeros(3, device=d).exponential_(-1),
    "more than there are": lambda d: torch.multinomial(torch.ones(3, device=d), 4),
}


# What a kernel of ours refuses in words of its own.
OWN_WORDS = {"more than there are": "multinomial cannot draw 4 of 3 categories without replacement"}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_eager_pytorch_refuses_are_refused_in_its_words(name):
    with pytest.raises(RuntimeError) as theirs:
        REFUSED[name]("cpu")
    with pytest.raises(RuntimeError) as ours:
        REFUSED[name]("tpu")
    words = OWN_WORDS.get(name, str(theirs.value).splitlines()[0])
    assert words in str(ours.value).splitlines()[0]


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda g: torch.randn(50, device="tpu", generator=g), id="randn"),
        pytest.param(lambda g: torch.randperm(50, device="tpu", generator=g), id="randperm"),
        pytest.param(lambda g: torch.randint(99, (50,), device="tpu", generator=g), id="randint"),
        pytest.param(lambda g: torch.zeros(50, device="tpu").uniform_(generator=g), id="uniform_"),
        pytest.param(lambda g: torch.multinomial(torch.ones(50, device="tpu"), 50, generator=g), id="multinomial"),
    ],
)
def test_a_generator_that_is_passed_is_what_numbers_come_from(draw):
    generator = torch.Generator("cpu").manual_seed(3)
    torch.manual_seed(0)
    first, second = draw(generator).cpu(), draw(generator).cpu()
    torch.manual_seed(1)
    assert torch.equal(draw(generator.manual_seed(3)).cpu(), first)
    assert not torch.equal(first, second)


FACTORIES = {
    "arange": lambda **kind: torch.arange(0, 1, 0.1, **kind),
    "linspace": lambda **kind: torch.linspace(0, 1, 7, **kind),
    "logspace": lambda **kind: torch.logspace(0, 1, 7, **kind),
    "full": lambda **kind: torch.full((2,), 0.1, **kind),
    "hann_window": lambda **kind: torch.hann_window(7, **kind),
    "fftfreq": lambda **kind: torch.fft.fftfreq(7, 0.3, **kind),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_factories_compute_in_the_dtype_that_is_asked_for(name):
    actual = FACTORIES[name](dtype=torch.float64, device="tpu").cpu()
    torch.testing.assert_close(actual, FACTORIES[name](dtype=torch.float64), rtol=1e-15, atol=1e-15)


ONES = {
    "remainder": lambda x: x % 1,
    "fmod": lambda x: torch.fmod(x, 1),
    "copysign": lambda x: torch.copysign(x, 1),
    "xlogy": lambda x: torch.xlogy(x.abs(), 1),
    "of one": lambda x: torch.xlogy(1, x.abs()),
    "zeta": lambda x: torch.special.zeta(x.abs() + 1.5, 1),
    "bitwise": lambda x: x.long() & 1,
    "shift": lambda x: 1 << x.long().abs(),
    "bool": lambda x: (x > 0) ^ True,
    "bool and int": lambda x: (x > 0) | 1,
}


@pytest.mark.parametrize("name", ONES)
def test_one_is_a_number_like_others(name):
    x = torch.tensor([1.5, -2.25, 3.0])
    torch.testing.assert_close(ONES[name](x.to("tpu")).cpu(), ONES[name](x))
