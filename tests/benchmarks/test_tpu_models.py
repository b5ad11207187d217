"""The models written in JAX are those of PyTorch: they have as many weights, in every phrasing."""

from __future__ import annotations

import math

import pytest

from .tpu_models.families import FAMILIES, weights_of

CASES = [(name, phrasing) for name, family in FAMILIES.items() for phrasing in family.phrasings]


@pytest.mark.parametrize(("name", "phrasing"), CASES)
def test_a_model_in_jax_has_as_many_weights_as_in_pytorch(name, phrasing):
    family = FAMILIES[name]
    model, _ = family.build()
    kept = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    expected = sum(tensor.numel() for tensor in kept.values() if tensor.is_floating_point())
    found = weights_of(family.phrasings[phrasing], family.inputs(phrasing))
    assert sum(math.prod(weight.shape) for weight in found.values()) == expected
