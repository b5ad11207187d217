"""Products of 8-bit floats with scales: every form of scales and layout, equal to eager PyTorch's."""

from __future__ import annotations

import itertools

import pytest
import torch

from tpu_dynamo_lowering.pipeline import lower, trace

E4, E5 = torch.float8_e4m3fn, torch.float8_e5m2
Tensor = torch.Tensor


def stored(by_columns: bool, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return a matrix of 8-bit floats, row by row or column by column in memory."""
    return torch.randn(columns, rows).to(dtype).t() if by_columns else torch.randn(rows, columns).to(dtype)


SCALES = {
    "whole": (torch.tensor(0.5), torch.tensor(0.25)),
    "rows": (torch.rand(16, 1) + 0.1, torch.rand(1, 48) + 0.1),
}


@pytest.mark.parametrize("scales", SCALES)
def test_scaled_products_are_eagers(scales):
    """Each dtype of operands and results, with a bias, and transposed in the graph: the gradients of weights are."""

    def products(first, second, turned, scale, other, bias):
        return [
            torch._scaled_mm(one, two, scale, other, bias=bias.to(dtype), out_dtype=dtype)
            for one in (first, turned.t().contiguous())
            for two in (second, second.t().contiguous().t())
            for dtype in (torch.float32, torch.bfloat16, torch.float16)
        ]

    compiled = torch.compile(products, backend="tpu", fullgraph=True)
    for left, right in itertools.islice(itertools.product((E4, E5), repeat=2), 3):  # eager refuses the last
        tensors = (stored(False, 16, 32, left), stored(True, 32, 48, right), stored(False, 32, 16, left))
        given = (*tensors, *SCALES[scales], torch.randn(48))
        for actual, expected in zip(compiled(*given), products(*given), strict=True):
            # Both sum 32 terms in float32, in another order, and round once.
            eps = max(torch.finfo(expected.dtype).eps, 32 * torch.finfo(torch.float32).eps)
            torch.testing.assert_close(actual, expected, rtol=eps, atol=eps)


def test_products_of_two_transposed_matrices_are_run():
    def gradient(gradient, input, scale):
        return torch._scaled_mm(
            gradient.t().contiguous(), input.t().contiguous().t(), scale, scale, out_dtype=torch.float32
        )

    given = (torch.randn(32, 128).to(E5), torch.randn(32, 64).to(E4), torch.tensor(0.5))
    actual = torch.compile(gradient, backend="tpu", fullgraph=True)(*given)
    torch.testing.assert_close(actual, gradient(*given))


@pytest.mark.parametrize(("platform", "operands"), [("tpu", "bf16"), ("cpu", "f32")])
def test_operands_are_converted_to_what_the_platform_multiplies(platform, operands):
    def product(x, y, scale):
        return torch._scaled_mm(x, y, scale, scale, out_dtype=torch.bfloat16)

    given = (stored(False, 16, 32, E4), stored(True, 32, 48, E4), torch.tensor(0.5))
    module = trace(product, [(t.shape, t.stride(), t.dtype) for t in given])
    text = lower(module, {}, platform=platform).text()
    assert f"(tensor<16x32x{operands}>, tensor<32x48x{operands}>) -> tensor<16x48xf32>" in text


def by_recipes(x: Tensor, y: Tensor, scale: Tensor, other: Tensor) -> Tensor:
    recipe = torch.nn.functional.ScalingType.BlockWise1x128
    return torch.nn.functional.scaled_mm(x, y, scale, recipe, other, recipe)


def by_shapes(x: Tensor, y: Tensor, scale: Tensor, other: Tensor) -> Tensor:
    return torch._scaled_mm(x, y, scale, other, out_dtype=torch.bfloat16)


BLOCKS = torch.ones(2, 128).t(), torch.ones(2, 512)
MICRO = torch.ones(128 * 8).to(torch.float8_e8m0fnu), torch.ones(512 * 8).to(torch.float8_e8m0fnu)


@pytest.mark.parametrize(
    ("product", "scales"),
    [
        pytest.param(by_recipes, (torch.ones(2, 128).t(), torch.ones(512, 2).t().contiguous().t()), id="recipes"),
        pytest.param(by_shapes, BLOCKS, id="blocks"),
        pytest.param(by_shapes, MICRO, id="mx"),
    ],
)
def test_scales_of_blocks_are_refused_in_words(product, scales):
    given = (stored(False, 128, 256, E4), stored(True, 256, 512, E4), *scales)
    with pytest.raises(Exception, match=r"tensor-wise and row-wise scales, not for blocks"):
        torch.compile(product, backend="tpu", fullgraph=True)(*given)
