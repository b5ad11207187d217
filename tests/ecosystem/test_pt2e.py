"""torchao's PT2E with our quantizer: models like ResNet and ViT, with static, dynamic and learnt grids."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpu_dynamo
from tpu_dynamo_runtime import plugin_installed

pytest.importorskip("torchao")
pytestmark = pytest.mark.filterwarnings("ignore")


class Residual(nn.Module):
    """Two convolutions with batch normalisation beside a third."""

    def __init__(self, channels: int, result: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, result, 3, 2, 1, bias=False), nn.BatchNorm2d(result))
        self.second = nn.Sequential(nn.Conv2d(result, result, 3, 1, 1, bias=False), nn.BatchNorm2d(result))
        self.beside = nn.Sequential(nn.Conv2d(channels, result, 1, 2, bias=False), nn.BatchNorm2d(result))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.beside(x))


class Attention(nn.Module):
    """A block of a vision transformer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.project(self.norms[0](x)).view(batch, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        x = x + self.join((scores @ value).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.shrink(F.gelu(self.grow(self.norms[1](x))))


def resnet() -> nn.Module:
    """Return a stem, two residual blocks and a classifier."""
    stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks = (Residual(8, 8), Residual(8, 16))
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class Tokens(nn.Module):
    """Makes rows of tokens of patches."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


def vit() -> nn.Module:
    """Return patches, two blocks and a classifier of each token."""
    return nn.Sequential(nn.Conv2d(3, 32, 8, 8), Tokens(), Attention(32, 4), Attention(32, 4), nn.Linear(32, 10))


def quantised(model: nn.Module, qat: bool, **options: bool) -> nn.Module:
    """Return a model converted by torchao after calibration, or after training steps without an optimizer."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e

    from tpu_dynamo.integrations.pt2e import TPUQuantizer

    model.train(qat)
    exported = torch.export.export(model, (torch.randn(2, 3, 32, 32),)).module()
    prepared = (prepare_qat_pt2e if qat else prepare_pt2e)(exported, TPUQuantizer(qat=qat, **options))
    for _ in range(2):
        prepared(torch.randn(2, 3, 32, 32))
    if qat:
        move_exported_model_to_eval(prepared)
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted


# For training torchao takes up to 12 s to prepare a model.
MODELS = [
    pytest.param(resnet, False, id="resnet"),
    pytest.param(resnet, True, id="resnet-qat", marks=pytest.mark.slow),
    pytest.param(vit, False, id="vit"),
    pytest.param(vit, True, id="vit-qat", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"dynamic": True}], ids=["static", "affine", "dynamic"])
@pytest.mark.parametrize(("make", "qat"), MODELS)
def test_a_model_is_eagers_within_a_step(make, qat, options):
    torch.manual_seed(0)
    torch._dynamo.reset()
    model, x = quantised(make(), qat, **options), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, actual = model(x), torch.compile(model, backend="tpu", fullgraph=True)(x)
    step = (expected.max() - expected.min()).item() / 255
    # Dynamic grids pass on what a rounding to another step changes: nudging the input by an ulp moves eager's own result
    # of this ViT by up to 2.3 steps.
    steps = 3 if make is vit and options.get("dynamic") else 1
    torch.testing.assert_close(actual, expected, rtol=0, atol=steps * step)


@pytest.mark.skipif(not plugin_installed("tpu"), reason="libtpu is not installed: pip install 'tpu-dynamo[tpu]'")
def test_every_product_is_one_of_integers_on_a_chip():
    torch.manual_seed(0)
    model = quantised(vit(), False)
    torch._dynamo.reset()
    (graph,) = tpu_dynamo.compile_for(model, (torch.randn(2, 3, 32, 32),), target="v5e:2x2")
    hlo = graph.optimized_hlo
    dtypes = dict(re.findall(r"(%\S+) = (\w+)\[", hlo))
    multiplied = re.findall(r" = s32\[\S+ convolution\((%\S+), (%\S+)\)", hlo)
    # Of two blocks, the patches and the classifier; the patches' sums, for the weight's zero points, are additions.
    assert len(multiplied) == 2 * 6 + 2
    assert {dtypes[operand] for operands in multiplied for operand in operands} == {"s8"}
