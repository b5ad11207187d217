"""Fourier transforms as a TPU computes them, against eager."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import lower
from tpu_dynamo_lowering.tpu import fourier

from ..graphs import traced

fft = torch.fft
# One matrix, two and three factors, primes by a matrix and by a convolution, and their products with other factors.
LENGTHS = [
    1, 7, 131, 1000, 1042,
    *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 128, 243, 3 * 521, 2**11 * 9, 17 * 1031, 2**17)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_transform_of_every_length(matches_eager_as_for_a_tpu, monkeypatch, length, dtype):
    monkeypatch.setattr(fourier, "is_for_xla", lambda length: False)
    x = torch.randn(2, length, dtype=dtype)

    def transforms(x):
        spectrum = fft.fft(x, norm="ortho")
        half = fft.rfft(x, norm="ortho")
        return spectrum, fft.ifft(spectrum, norm="ortho"), half, fft.irfft(half, n=length, norm="ortho")

    matches_eager_as_for_a_tpu(transforms, x)


def test_several_dimensions(matches_eager_as_for_a_tpu):
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)

    def transforms(x):
        return (
            fft.fftn(x, dim=(1, 2, 3)), fft.ifft2(x), fft.rfftn(x, dim=(2, 3, 1)), fft.irfftn(x + 1j * x, s=(6, 8)),
            fft.hfft(x + 1j * x, n=7), fft.ihfft(x),
        )  # fmt: skip

    matches_eager_as_for_a_tpu(transforms, x)


def test_gradients(matches_eager_as_for_a_tpu):
    def loss(x):
        return fft.irfft(fft.rfft(x) * fft.fft(x)[..., :6]).sin().sum()

    matches_eager_as_for_a_tpu(torch.func.grad(loss), torch.randn(3, 10, dtype=torch.float64))


@pytest.mark.parametrize("length", [128, 2048])
def test_what_xla_transforms_well_is_left_to_it(length):
    graph = traced(torch.fft.fft, torch.randn(length, dtype=torch.complex64))
    assert "stablehlo.fft" in lower(graph, {}, platform="tpu").text()


@pytest.mark.slow
def test_tables_of_a_long_length_are_small():
    graph = traced(torch.fft.fft, torch.randn(2**20, dtype=torch.complex64))
    program = lower(graph, {}, platform="tpu")
    assert len(program.stablehlo) < 2**22
