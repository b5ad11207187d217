"""Fake quantisation by grids that are given, learnt and observed, and its gradients, against eager PyTorch."""

from __future__ import annotations

import pytest
import torch

aten = torch.ops.aten

# Ties, values outside of the grids, and their ends.
VALUES = torch.cat([torch.tensor([0.05, -0.05, 0.15, 12.7, -12.8, 13.0, -50.0, 1e4]), torch.linspace(-15, 15, 16)])


@pytest.mark.parametrize("zero_point", [-128.0, -3.5, 0.0, 2.5, 127.0, 300.0])
def test_learnt_grids_of_tensors(matches_eager, zero_point):
    def forward_and_backward(x, scale, zero):
        grid = (scale, zero, -128, 127, 0.5)
        return (
            aten._fake_quantize_learnable_per_tensor_affine(x, *grid),
            *aten._fake_quantize_learnable_per_tensor_affine_backward(x + 1, x, *grid),
        )

    matches_eager(forward_and_backward, VALUES, torch.tensor([0.1]), torch.tensor([zero_point]))


@pytest.mark.parametrize("axis", [0, 1])
def test_learnt_grids_of_channels(matches_eager, axis):
    def forward_and_backward(x, scale, zero):
        grid = (scale, zero, axis, -128, 127, 0.5)
        return (
            aten._fake_quantize_learnable_per_channel_affine(x, *grid),
            *aten._fake_quantize_learnable_per_channel_affine_backward(x + 1, x, *grid),
        )

    x = VALUES.reshape(4, 6)
    channels = x.shape[axis]
    matches_eager(forward_and_backward, x, torch.rand(channels) + 0.1, torch.linspace(-130, 128, channels))


@pytest.mark.parametrize("symmetric", [False, True], ids=["affine", "symmetric"])
@pytest.mark.parametrize("rows", [False, True], ids=["tensor", "rows"])
def test_observed_grids(matches_eager, rows, symmetric):
    channels = 4 if rows else 1

    def observe(values, minimum, maximum, scale, zero, on, off):
        found = []
        for x in values:
            for switches in ((on, on), (on, off), (off, on), (off, off)):
                arguments = (x, *switches, minimum, maximum, scale, zero, 0.01, -128, 127, 0, rows, symmetric)
                result = torch.fused_moving_avg_obs_fake_quant(*arguments)
                found += [result, minimum.clone(), maximum.clone(), scale.clone(), zero.clone()]
        return found

    values = VALUES.reshape(4, 2, 3)
    values = [values, values.abs(), -values.abs(), values * 1e-4, values[:, :, :1] * 0 + 1e-7]
    state = [torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)]
    grid = [torch.ones(channels), torch.zeros(channels, dtype=torch.int32)]
    matches_eager(observe, values, *state, *grid, torch.tensor([1]), torch.tensor([0]))


def test_gradients_through_an_observer():
    def loss(x, minimum, maximum, scale, zero, on):
        arguments = (x, on, on, minimum, maximum, scale, zero, 0.01, -128, 127, 0, False, False)
        return torch.fused_moving_avg_obs_fake_quant(*arguments).square().sum()

    found = []
    for function in (loss, torch.compile(loss, backend="tpu", fullgraph=True)):
        x = VALUES.clone().requires_grad_()
        state = [torch.tensor([-3.0]), torch.tensor([3.0]), torch.ones(1), torch.zeros(1, dtype=torch.int32)]
        function(x, *state, torch.tensor([1])).backward()
        found.append([x.grad, *state])
    torch.testing.assert_close(found[1], found[0])
