"""transformers' own generate: few programs with a static cache, and with a growing one in buckets; equal tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.decoders import decoder


def prompts(length: int) -> torch.Tensor:
    return torch.randint(3, 60, (1, length), generator=torch.Generator().manual_seed(length))


def generated(model: Any, tokens: torch.Tensor, **settings: Any) -> torch.Tensor:
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "opt"])
def test_a_static_cache_takes_one_program_for_prompts_of_all_lengths(name, monkeypatch):
    from transformers import CompileConfig

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "0")  # generate sets it when it compiles
    settings: Any = CompileConfig(backend="tpu", mode="default", fullgraph=False, dynamic=False)
    settings._compile_all_devices = True
    model = decoder(name, num_hidden_layers=1)
    for length in (5, 11):
        tokens = prompts(length)
        theirs = generated(decoder(name, num_hidden_layers=1), tokens, max_length=40)
        ours = generated(model, tokens, max_length=40, cache_implementation="static", compile_config=settings)
        assert torch.equal(ours, theirs)
    assert tpu_dynamo.stats().graphs == {"inference": 1}
    assert tpu_dynamo.stats().lowerings == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "programs"), [("gpt2", 8), ("llama", 8), ("mistral", 12)])
def test_a_growing_cache_takes_a_program_for_each_bucket(name, programs):
    model = decoder(name, num_hidden_layers=1)
    model.forward = torch.compile(model.forward, backend="tpu", dynamic=True, options={"buckets": "pow2"})
    for length in (5, 11):
        tokens = prompts(length)
        theirs = generated(decoder(name, num_hidden_layers=1), tokens, max_new_tokens=24)
        assert torch.equal(generated(model, tokens, max_new_tokens=24), theirs)
    assert tpu_dynamo.stats().lowerings <= programs
