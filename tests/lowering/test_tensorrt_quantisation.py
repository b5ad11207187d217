"""Models for TensorRT, whose values NVIDIA's Model Optimizer rounds to grids, against its definition in PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tpu_dynamo

LIBRARY = torch.library.Library("tensorrt", "FRAGMENT")
ARGUMENTS = "(Tensor input, Tensor amax, int num_bits, int exponent_bits, bool unsigned, bool narrow_range) -> Tensor"
if not hasattr(torch.ops.tensorrt, "quantize_op"):  # else Model Optimizer is imported, and defines it
    LIBRARY.define("quantize_op" + ARGUMENTS)
    torch.library.register_fake("tensorrt::quantize_op", lambda input, *_: torch.empty_like(input), lib=LIBRARY)

    @torch.library.impl(LIBRARY, "quantize_op", "CPU")
    def on_grid(input: Tensor, amax: Tensor, num_bits: int, exponent_bits: int, unsigned: bool, narrow: bool) -> Tensor:
        empty = amax.float() <= 2.0**-24
        most = torch.where(empty, 1.0, amax.float())
        if exponent_bits:
            scale = 448 / most
            held = (input.float() * scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            return (held.float() * (1 / scale)).to(input.dtype)
        last = 2.0 ** (num_bits - 1 + unsigned) - 1
        first = 0 if unsigned else -last - (not narrow)
        held = (input.float() * (last / most)).round().clamp(first, last)
        return torch.where(empty, 0.0, held / (last / most)).to(input.dtype)


class Quantised(torch.nn.Module):
    """A linear layer with grids for its input and, of one channel each, its weight."""

    def __init__(self, grid: tuple[int, int], weight_by_channel: bool):
        super().__init__()
        self.grid = grid
        self.weight = torch.nn.Parameter(torch.randn(5, 10))
        self.register_buffer("of_input", torch.tensor(1.5))
        most = self.weight.detach().abs()
        self.register_buffer("of_weight", most.amax(1, keepdim=True) if weight_by_channel else most.max())

    def forward(self, x: Tensor) -> Tensor:
        quantize = torch.ops.tensorrt.quantize_op
        x = quantize(x, self.of_input, *self.grid, False, False)
        return torch.nn.functional.linear(x, quantize(self.weight, self.of_weight, *self.grid, False, True)).relu()


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize(
    ("grid", "by_channel"),
    [pytest.param((8, 0), True, id="int8"), pytest.param((8, 4), False, id="float8"), pytest.param((4, 0), True, id="int4")],
)  # fmt: skip
def test_exported_models_compile(device, grid, by_channel):
    x = torch.cat([torch.randn(3, 10), torch.full((1, 10), torch.inf), torch.zeros(1, 10)])
    exported = torch.export.export(Quantised(grid, by_channel), (x,)).module()
    expected = exported(x)
    with torch.no_grad():
        found = torch.compile(exported.to(device), backend="tpu", fullgraph=True)(x.to(device))
    torch.testing.assert_close(found.cpu(), expected)
    assert not tpu_dynamo.stats().fallbacks


def test_ranges_of_nothing_unsigned_integers_and_half_precision(matches_eager):
    def quantize(x, amax):
        of = torch.ops.tensorrt.quantize_op
        return of(x, amax, 8, 0, True, False), of(x, amax, 8, 4, False, False), of(x, amax[:1], 8, 0, False, False)

    matches_eager(quantize, torch.randn(3, 4).bfloat16(), torch.tensor([[0.0], [1.0], [0.3]]))


def test_other_floats_are_refused_in_words():
    function = torch.compile(lambda x: torch.ops.tensorrt.quantize_op(x, x.amax(), 4, 2, False, False), backend="tpu")
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="a grid of 4 bits of which 2 are exponents"):
        function(torch.ones(3))


BLOCKS = "(Tensor input, int block_size, Tensor amax, int num_bits, int exponent_bits, int scale_num_bits, int scale_exponent_bits) -> Tensor"
if not hasattr(torch.ops.tensorrt, "dynamic_block_quantize_op"):
    LIBRARY.define("dynamic_block_quantize_op" + BLOCKS)
    torch.library.register_fake("tensorrt::dynamic_block_quantize_op", lambda x, *_: torch.empty_like(x), lib=LIBRARY)


def nvfp4(x: Tensor, amax: Tensor) -> Tensor:
    """Return the nearest numbers of NVFP4, in blocks of 16, found among all of them."""
    unit = amax.float().max() / (6 * 448)
    found = torch.empty_like(x)
    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    for row, into in zip(x.reshape(-1, x.shape[-1]), found.view(-1, x.shape[-1]), strict=True):
        for block, part in zip(row.float().split(16), into.split(16), strict=True):
            scale = (block.abs().max() / (6 * unit)).clamp(max=448).to(torch.float8_e4m3fn).float() * unit
            scale = scale if scale >= 1e-5 else torch.tensor(1.0)
            distance = (block.abs() / scale)[:, None].sub(numbers).abs()
            # Of two that are equally near the one with an even last bit, every other one.
            nearest = (distance + 1e-6 * (torch.arange(8) % 2)).argmin(1)
            part.copy_(numbers[nearest] * scale * block.sign())
    return found


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [32, 40])
def test_blocks_of_nvfp4(device, dtype, width):
    x = torch.randn(3, 2, width).to(dtype)
    x[0, 0, :16] = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6, -0.25, -0.75, -1.25, -2.5, -3.5, -5, -6])
    x[1, 1, 16:] = 0
    amax = torch.tensor([448.0 * 6])
    quantize = torch.ops.tensorrt.dynamic_block_quantize_op
    for most in (amax, x.abs().max().reshape(1)):
        compiled = torch.compile(lambda x, most: quantize(x, 16, most, 4, 2, 8, 4), backend="tpu", fullgraph=True)
        found = compiled(x.to(device), most.to(device))
        torch.testing.assert_close(found.cpu(), nvfp4(x, most))
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="only NVFP4 is"):
        torch.compile(lambda x: quantize(x, 32, x, 4, 2, 9, 8), backend="tpu")(x.to(device))
