"""The models written in JAX compute what those of PyTorch do, from the same weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from .tpu_models import transformers
from .tpu_models.families import FAMILIES, reader, weights_of
from .tpu_models.values import disturb, random_inputs, weights_from


def inputs_of(name, phrasing):
    """Random inputs for PyTorch, and for JAX, whose images have their channels last."""
    given = random_inputs(name)
    moved = [x if x.ndim < 3 or "channels first" in phrasing else x.movedim(1, -1) for x in given]
    return given, [jnp.asarray(x.numpy()) for x in moved]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_in_jax_computes_what_it_does_in_pytorch(name, monkeypatch):
    monkeypatch.setattr(transformers, "LAYERS", 1)
    torch.manual_seed(0)
    family = FAMILIES[name]
    model = family.build("cpu")[0].float()
    disturb(model)
    for phrasing, function in family.phrasings.items():
        given, moved = inputs_of(name, phrasing)
        weights = weights_from(name, model, weights_of(function, moved, jnp.float32))
        found = np.asarray(jax.jit(lambda w, *x, f=function: f(reader(w), *x))(weights, *moved))
        with torch.no_grad():
            output = model(*given)
        output = output if isinstance(output, torch.Tensor) else output.get("pooler_output", output[0])
        expected = output.squeeze().numpy()
        found = found.transpose(0, 3, 1, 2) if name == "U-Net" else found.reshape(expected.shape)
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max(), phrasing
