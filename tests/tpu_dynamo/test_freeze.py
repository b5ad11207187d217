"""options={"freeze": True}: the same numbers from a smaller program, and an error when a parameter changes."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)

EPSILON = torch.finfo(torch.float32).eps
PLACES = pytest.mark.parametrize("place", ["shared", "copy", "tpu"])


class Net(nn.Module):
    """Batch norms that may join their convolution and some that may not; parameters that meet in every way."""

    calls: torch.Tensor

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, bias=False)
        self.first_norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, groups=2, padding=1)
        self.grouped_norm = nn.BatchNorm2d(4, affine=False)
        self.up = nn.ConvTranspose2d(4, 4, 2, bias=False)
        self.up_norm = nn.BatchNorm2d(4)
        self.twice = nn.Conv2d(4, 4, 1)
        self.twice_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.head.weight
        self.scale = nn.Parameter(torch.randn(4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        x = F.relu(self.first_norm(self.first(x)))
        x = x + self.grouped_norm(self.grouped(x))
        x = self.up_norm(self.up(x))
        both = self.twice(x)
        x = (both + self.twice_norm(both)).mean((2, 3))
        rescaled = torch.softmax(self.head.weight.t() @ self.tied.weight, 0) * self.scale.exp()
        return self.tied(self.head(x)) @ rescaled + self.calls, self.scale


def made():
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for buffer in (module.get_buffer("running_mean"), module.get_buffer("running_var")):
                buffer.uniform_(0.5, 2)
    return net


def frozen(model, place="shared", **options):
    if place == "tpu":
        model = model.to("tpu")
    else:
        options["transfer"] = place
    return torch.compile(model, backend="tpu", options={"freeze": True, **options})


@PLACES
@torch.no_grad()
def test_the_numbers_are_eagers_at_every_size(place):
    reference = made()
    model = copy.deepcopy(reference)
    compiled = frozen(model, place)
    for size in (2, 3, 4):
        x = torch.randn(size, 3, 8, 8)
        actual, scale = compiled(x.to(place if place == "tpu" else "cpu"))
        torch.testing.assert_close(actual.cpu(), reference(x)[0], rtol=EPSILON**0.5, atol=100 * EPSILON)
        assert scale is model.scale
    assert model.calls == reference.calls == 3


@torch.no_grad()
def test_what_follows_from_parameters_alone_is_not_in_the_program(tmp_path):
    compiled = frozen(made(), dump_dir=tmp_path)
    compiled(torch.randn(2, 3, 8, 8))
    (text,) = (path.read_text() for path in tmp_path.glob("*/rewritten.fx.py"))
    assert "softmax" not in text
    assert text.count("aten.rsqrt") + text.count("batch_norm.default(") <= 2  # those that could not be joined


def test_in_half_precision():
    reference = made().bfloat16()
    compiled = frozen(copy.deepcopy(reference))
    x = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = reference.float()(x.float())[0]
        tolerance = torch.finfo(torch.bfloat16).eps
        torch.testing.assert_close(compiled(x)[0].float(), expected, rtol=8 * tolerance, atol=8 * tolerance)


def add_in_place(model):
    model.first.weight.add_(1)


def assign_data(model):
    model.first.weight.data = model.first.weight.data.clone()


def load_a_checkpoint(model):
    model.load_state_dict(made().state_dict())


@PLACES
@pytest.mark.parametrize("change", [add_in_place, assign_data, load_a_checkpoint])
@torch.no_grad()
def test_a_change_is_an_error_that_names_the_parameter(place, change):
    model = made()
    compiled = frozen(model, place)
    x = torch.randn(2, 3, 8, 8).to(place if place == "tpu" else "cpu")
    compiled(x)
    change(model)
    with pytest.raises(tpu_dynamo.FrozenParameterChanged, match=r"first.*weight.*changed after .* freeze=True"):
        compiled(x)
    torch._dynamo.reset()
    torch.testing.assert_close(
        compiled(x)[0].cpu(), copy.deepcopy(model).to("cpu")(x.cpu())[0] - 1, rtol=EPSILON**0.5, atol=100 * EPSILON
    )


def test_a_graph_with_gradients_is_refused():
    with pytest.raises(Exception, match=r"(?s)freeze=True makes constants of parameters.*torch.no_grad"):
        frozen(made())(torch.randn(2, 3, 8, 8))


@torch.no_grad()
def test_what_was_frozen_goes_with_the_compiled_function():
    model = nn.Linear(4, 4)
    storage = weakref.ref(model.weight.untyped_storage())
    compiled = frozen(model)
    compiled(torch.ones(2, 4))
    del model, compiled
    torch._dynamo.reset()
    gc.collect()
    assert storage() is None


def test_ahead_of_time_it_is_the_same_program(tmp_path):
    model, x = made(), torch.randn(2, 3, 8, 8)
    (graph,) = tpu_dynamo.compile_for(model, (x,), target="cpu", options={"freeze": True})
    with torch.no_grad():
        frozen(model, dump_dir=tmp_path)(x)
    (text,) = (path.read_text() for path in tmp_path.glob("*/stablehlo.mlir"))
    arguments = [
        program.partition("@main(")[2].partition(") ->")[0].count("%arg") for program in (text, graph.stablehlo)
    ]
    assert arguments[0] == arguments[1]
