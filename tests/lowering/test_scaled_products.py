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


SCALING = torch.nn.functional.ScalingType
TILES = torch.nn.functional.SwizzleType.SWIZZLE_32_4_4


def spread(scale: Tensor, rows: int, columns: int) -> Tensor:
    """Return [rows, columns] float64 of scales, each for a block of as many numbers as make them fit."""
    down, across = rows // scale.shape[0], columns // scale.shape[1]
    return scale.double().repeat_interleave(down, 0).repeat_interleave(across, 1)


def exact(x: Tensor, y: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the product of dequantised matrices in float64; scales in the order of the matrices."""
    return (x.double() * spread(first, *x.shape)) @ (y.double() * spread(second, *y.shape))


def tiled(scales: Tensor) -> Tensor:
    """Put scales into the tiles of 128 x 4 that GPUs take: in one of 512, row r and column c are at 16 r + 4 q + c.

    q is the quarter of 32 rows, r the row in it.
    """
    rows, columns = (-(-size // unit) * unit for size, unit in zip(scales.shape, (128, 4), strict=True))
    out = torch.zeros(rows // 128, columns // 4, 512, dtype=scales.dtype)
    for row in range(scales.shape[0]):
        for column in range(scales.shape[1]):
            place = 16 * (row % 32) + 4 * (row % 128 // 32) + column % 4
            out[row // 128, column // 4, place] = scales[row, column]
    return out.reshape(-1)


def by_columns(scale: Tensor) -> Tensor:
    return scale.t().contiguous().t()


def padded(scale: Tensor) -> Tensor:
    """Return scales of 128x128 blocks, [K / 128, N / 128], with K / 128 padded to fours, by columns."""
    return by_columns(torch.cat([scale, torch.full((-scale.shape[0] % 4, scale.shape[1]), torch.nan)]))


def test_scales_of_blocks_are_applied_to_their_blocks():
    """By their shapes, and by their recipes, whose scales of the second matrix stand the other way."""

    def products(x, y, strips, squares, strips_b, squares_b, bias):
        one, two = SCALING.BlockWise1x128, SCALING.BlockWise128x128
        scaled = torch.nn.functional.scaled_mm
        by_recipe = [
            scaled(x, y, strips, one, by_columns(strips_b.t()), one, bias=bias, output_dtype=torch.float32),
            scaled(x, y, strips, one, padded(squares_b), two, bias=bias, output_dtype=torch.float32),
            scaled(
                x, y, padded(squares.t()), two, by_columns(strips_b.t()), one, bias=bias, output_dtype=torch.float32
            ),
        ]
        pairs = ((strips, strips_b), (strips, squares_b), (squares, strips_b))
        return by_recipe + [torch._scaled_mm(x, y, *pair, bias=bias, out_dtype=torch.float32) for pair in pairs]

    x, y, bias = stored(False, 256, 384, E4), stored(True, 384, 512, E4), torch.randn(512)
    strips, squares = by_columns(torch.rand(256, 3) + 0.1), torch.rand(2, 3) + 0.1
    strips_b, squares_b = torch.rand(3, 512) + 0.1, torch.rand(3, 4) + 0.1
    found = torch.compile(products, backend="tpu", fullgraph=True)(x, y, strips, squares, strips_b, squares_b, bias)
    pairs = ((strips, strips_b), (strips, squares_b), (squares, strips_b)) * 2
    for actual, (first, second) in zip(found, pairs, strict=True):
        expected = exact(x, y, first, second) + bias
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_scales_of_micro_blocks_are_read_from_the_tiles_of_gpus():
    def products(x, y, first, second):
        recipe = SCALING.BlockWise1x32
        scales = first, recipe, second, recipe, TILES, TILES
        by_recipe = torch.nn.functional.scaled_mm(x, y, *scales, output_dtype=torch.float32)
        return by_recipe, torch._scaled_mm(x, y, first, second, out_dtype=torch.float32)

    x, y = stored(False, 160, 192, E4), stored(True, 192, 64, E4)
    first, second = (2.0 ** torch.randint(-8, 9, (rows, 6)) for rows in (160, 64))
    given = x, y, *(tiled(scale).to(torch.float8_e8m0fnu) for scale in (first, second))
    expected = exact(x, y, first, second.t())
    for actual in torch.compile(products, backend="tpu", fullgraph=True)(*given):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


GROUPED = {
    "rows": ((64, 32), (3, 32, 48), (64,), (3, 48)),
    "columns": ((3, 48, 32), (32, 64), (3, 48), (64,)),
    "shared": ((16, 64), (64, 48), (3 * 16,), (3 * 48,)),
    "batches": ((3, 16, 32), (3, 32, 48), (3, 16), (3, 48)),
}


@pytest.mark.parametrize("form", GROUPED)
def test_grouped_products_are_scaled_by_rows_and_columns(form):
    def product(x, y, first, second, ends):
        return torch._scaled_grouped_mm(x, y, first, second, offs=ends)

    *shapes, of_rows, of_columns = GROUPED[form]
    x, y = torch.randn(shapes[0]).to(E4), torch.randn(shapes[1]).mT.contiguous().to(E4).mT
    first, second = torch.rand(of_rows) + 0.1, torch.rand(of_columns) + 0.1
    ends = None if form == "batches" else torch.tensor([16, 16, 64], dtype=torch.int32)
    actual = torch.compile(product, backend="tpu", fullgraph=True)(x, y, first, second, ends)
    left, right, parts = x.double(), y.double(), [slice(0, 16), slice(16, 16), slice(16, 64)]
    if form == "rows":
        expected = torch.cat([left[p] @ right[g] * second[g] for g, p in enumerate(parts)]) * first[:, None]
    elif form == "columns":
        expected = torch.cat([left[g] @ right[:, p] * first[g][:, None] for g, p in enumerate(parts)], 1) * second
    elif form == "shared":
        products = torch.stack([left[:, p] @ right[p] for p in parts])
        expected = products * first.reshape(3, 16, 1) * second.reshape(3, 1, 48)
    else:
        expected = left @ right * first[:, :, None] * second[:, None]
    torch.testing.assert_close(actual, expected.bfloat16(), rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize(
    ("product", "scales", "why"),
    [
        pytest.param(
            lambda x, y, a, b: torch._scaled_mm(x, y, a, b, out_dtype=torch.bfloat16),
            (torch.ones(128 * 8).to(E4), torch.ones(512 * 8).to(E4)),
            r"4-bit floats \(NVFP4\)(.|\n)*MX scales",
            id="nvfp4",
        ),
        pytest.param(
            lambda x, y, a, b: torch._scaled_grouped_mm(x, y[None], a, b, offs=torch.tensor([128], dtype=torch.int32)),
            (torch.ones(128, 4).to(torch.float8_e8m0fnu), torch.ones(1, 2048).to(torch.float8_e8m0fnu)),
            r"MX scales, each group's padded(.|\n)*float32",
            id="mx-by-group",
        ),
    ],
)
def test_scales_that_are_not_lowered_are_refused_in_words(product, scales, why):
    shared = 64 if scales[0].ndim == 1 else 128
    given = (stored(False, 128, shared, E4), stored(True, shared, 512, E4), *scales)
    with pytest.raises(Exception, match=why):
        torch.compile(product, backend="tpu", fullgraph=True)(*given)
