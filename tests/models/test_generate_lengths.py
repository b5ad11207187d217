"""transformers' `generate` after prompts of random lengths: eager's tokens, and few programs for all of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.decoders import decoder

pytestmark = pytest.mark.slow

# The window of mistral is full long before the end.
FAMILIES = {"gpt2": {}, "llama": {}, "mistral": {"sliding_window": 64}, "qwen2": {}, "opt": {}}


def generated(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=256)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_growing_cache_in_buckets_takes_eight_programs_for_prompts_of_three_lengths(name):
    model = decoder(name, num_hidden_layers=1, **FAMILIES[name])
    eager = decoder(name, num_hidden_layers=1, **FAMILIES[name])
    model.forward = torch.compile(model.forward, backend="tpu", dynamic=True, options={"buckets": "pow2"})
    for length in random.Random(name).sample(range(33, 200), 3):
        tokens = torch.randint(3, 60, (1, length), generator=torch.Generator().manual_seed(length))
        assert torch.equal(generated(model, tokens), generated(eager, tokens))
    assert tpu_dynamo.stats().lowerings <= 8
