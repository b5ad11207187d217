"""The models written in JAX compute what those of PyTorch do, from the same weights."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from .tpu_models import denoising
from .tpu_models.families import FAMILIES, reader, weights_of

PARTS = {".kernel": ".weight", ".scale": ".weight", ".bias": ".bias"}


def from_torch(model, names, shapes):
    """Return a PyTorch model's parameters under names of JAX, in their shapes. names: from these to PyTorch's."""
    state, weights = model.state_dict(), {}
    for name, expected in shapes.items():
        value = state[names(name)]
        if name.endswith(".kernel"):  # [out, in, ...] to [..., in, out]
            value = value.permute(*range(2, value.ndim), 1, 0)
        weights[name] = jnp.asarray(value.numpy()).reshape(expected.shape)
    return weights


def same_names(name):
    part = next(part for part in PARTS if name.endswith(part))
    return name.removesuffix(part) + PARTS[part]


@pytest.mark.slow
@pytest.mark.parametrize("phrasing", FAMILIES["U-Net"].phrasings)
def test_unet(phrasing):
    torch.manual_seed(0)
    model = denoising.UNet().eval()
    images, steps = torch.randn(2, denoising.IMAGE, 8, 8), torch.tensor([3, 500])
    family = FAMILIES["U-Net"]
    function = family.phrasings[phrasing]
    given = jnp.asarray(images.permute(0, 2, 3, 1).numpy()), jnp.asarray(steps.numpy())
    shapes = weights_of(function, given, jnp.float32)
    weights = from_torch(model, same_names, shapes)
    found = np.asarray(function(reader(weights), *given)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(found), model(images, steps), rtol=1e-3, atol=1e-3)
