"""transformers' `generate` in eager on the device: tokens as the CPU's, by whichever search and cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tpu_dynamo

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own warnings
transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra `ecosystem`)")

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
NEW = 5


def gpt2() -> Any:
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **IDS))


def llama() -> Any:
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 31}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads, **IDS))


def generated(make: Any, device: str, prompt: int = 4, rows: int = 1, **how: Any) -> torch.Tensor:
    """Return the tokens that a small model generates on a device."""
    torch.manual_seed(0)
    model = make().eval().to(device)
    if how.pop("assisted", False):
        torch.manual_seed(1)
        how["assistant_model"] = make().eval().to(device)
    ids = (torch.arange(3, 3 + prompt) % 31).expand(rows, prompt).to(device)
    torch.manual_seed(2)
    tokens = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, **how)
    assert tokens.device.type == device
    return tokens.cpu()


SEARCHES = [
    pytest.param({"do_sample": False}, id="greedy"),
    pytest.param({"do_sample": False, "num_beams": 3}, id="beams"),
    pytest.param({"do_sample": False, "assisted": True}, id="assisted"),
    pytest.param({"do_sample": False, "cache_implementation": "static", "disable_compile": True}, id="static"),
]


@pytest.mark.shows(
    "transformers", "`generate` in eager: greedy, beams, assisted, growing and static caches", "model.generate(...)"
)
@pytest.mark.slow
@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("how", SEARCHES)
def test_tokens_are_the_cpus(make: Any, how: dict[str, Any]):
    assert torch.equal(generated(make, "tpu", **how), generated(make, "cpu", **how))


def test_a_longer_text_compiles_nothing():
    """A token more is another length of every mask, position and cache, and no program."""
    assert torch.equal(generated(gpt2, "tpu", do_sample=False), generated(gpt2, "cpu", do_sample=False))
    before = tpu_dynamo.stats()
    longer = {"do_sample": False, "max_length": 20, "max_new_tokens": None, "min_new_tokens": None}
    torch.manual_seed(0)
    model = gpt2().eval().to("tpu")
    ids = torch.arange(3, 7)[None].to("tpu")
    model.generate(ids, attention_mask=torch.ones_like(ids), **longer, eos_token_id=None)
    after = tpu_dynamo.stats()
    assert (after.lowerings, after.xla_compiles) == (before.lowerings, before.xla_compiles)
    assert after.fallbacks == before.fallbacks


@pytest.mark.shows(
    "transformers", "`generate` in eager: samples as likely as the CPU's", "model.generate(do_sample=True)"
)
@pytest.mark.slow
def test_samples_are_as_likely_as_on_the_cpu():
    how = {"do_sample": True, "top_k": 8, "temperature": 0.7, "rows": 512}
    counts = [torch.bincount(generated(gpt2, device, **how)[:, -1], minlength=31) / 512 for device in ("tpu", "cpu")]
    assert (counts[0] - counts[1]).abs().max() < 0.08 and counts[0].count_nonzero() > 4
