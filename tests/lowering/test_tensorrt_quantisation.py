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
