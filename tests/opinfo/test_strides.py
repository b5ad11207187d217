"""Results have eager's strides: OpInfo's operators on inputs whose memory is permuted."""

from __future__ import annotations

import inspect
import itertools

import pytest
import torch

from tpu_dynamo_lowering.eager_strides import RULES

from .strides import LEFT_OUT, differences, entries, strides_of

pytestmark = pytest.mark.sampled(3)

ENTRIES = {name: info for name, info in entries(torch.float32).items() if name not in LEFT_OUT}

# Those whose fake tensors have other strides than eager's results, and every so-and-so-many-th of the others.
LOST = [
    "copysign", "div-floor_rounding", "fft.fftshift", "floor_divide", "heaviside", "ldexp", "logaddexp", "logical_and",
    "native_batch_norm", "nn.functional.batch_norm", "nn.functional.channel_shuffle", "nn.functional.logsigmoid",
    "nn.functional.max_unpool2d", "nn.functional.pad-reflect", "nn.functional.pad-replicate", "roll", "special.xlog1py",
    "xlogy",
]  # fmt: skip
SPREAD = list(itertools.islice(ENTRIES, 3, None, 24))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in dict.fromkeys(LOST + SPREAD) if name in ENTRIES])
def test_a_graph_has_the_strides_of_eager(name):
    assert not list(differences(ENTRIES[name], torch.float32, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ENTRIES)
def test_every_graph_has_the_strides_of_eager(name):
    assert not list(differences(ENTRIES[name], torch.float32, 12))


@pytest.mark.parametrize("operator", RULES, ids=str)
def test_a_rule_takes_the_arguments_of_its_operator(operator):
    positional = [None for argument in operator._schema.arguments if not argument.kwarg_only]
    keywords = {argument.name: None for argument in operator._schema.arguments if argument.kwarg_only}
    inspect.signature(RULES[operator]).bind(*positional, **keywords)


def last(*shape):
    return torch.randn(*shape).to(memory_format=torch.channels_last)


ROW = torch.randn(3, 4).t().contiguous().t()

COMPILED = {
    "roll": (lambda x: x.roll(1, 2), last(2, 3, 4, 4)),
    "roll-twice": (lambda x: x.roll((1, 2), (1, 3)) + 1, last(2, 3, 4, 4)),
    "roll-flat": (lambda x: x.roll(3), last(2, 3, 4, 4)),
    "roll-view": (lambda x: (x.roll(1, 2).transpose(1, 2), x.roll(1, 3).flatten(2)), last(2, 3, 4, 4)),
    "roll-reshaped": (lambda x: x.roll(1, 2).reshape(2, -1), last(2, 3, 4, 4)),
    "floor_divide": (lambda x: torch.div(x, torch.tensor(2.0), rounding_mode="floor"), ROW),
    "xlogy": (lambda x: torch.xlogy(x, x.abs()), torch.randn(2, 3, 4).permute(2, 1, 0)),
    "power": (lambda x: 2.0**x, last(2, 3, 4, 4)),
    "batch_norm": (lambda x: torch.nn.functional.batch_norm(x, None, None, training=True), torch.randn(4, 5, 3).mT),
    "group_norm": (lambda x: torch.nn.functional.group_norm(x, 2), last(2, 4, 3, 3)),
    "pad": (lambda x: torch.nn.functional.pad(x[None], (1, 1, 1, 1, 1, 1), "reflect")[0], last(3, 3, 5, 5)),
}


@pytest.mark.parametrize(("function", "given"), COMPILED.values(), ids=COMPILED)
def test_a_compiled_result_has_the_strides_of_eager(matches_eager, function, given):
    assert strides_of(matches_eager(function, given)) == strides_of(function(given))


def test_gradients_have_the_strides_of_eager():
    given = last(2, 3, 4, 4)
    x, y = given.clone().requires_grad_(), given.clone().requires_grad_()

    def loss(x):
        padded = torch.nn.functional.pad(x.roll(1, 2), (1, 1, 1, 1), "reflect")
        return torch.log_softmax(padded, 1).square().sum()

    torch.compile(loss, backend="tpu", fullgraph=True)(x).backward()
    loss(y).backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad.stride() == y.grad.stride()
