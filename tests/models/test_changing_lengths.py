"""Models of six families on batches and lengths that change: with buckets few programs, and eager's values."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo

pytestmark = pytest.mark.slow

PAIRS, BATCH, LENGTH = 34, 9, 70


class UNet(nn.Module):
    """Two levels with skips, group norms and attention among all pixels of the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.down, self.deep = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.up, self.out = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.silu(self.norm(self.enter(x)))
        deep = F.silu(self.deep(self.down(wide)))
        pixels = deep.flatten(2).transpose(1, 2)
        heads = [part(pixels).unflatten(-1, (2, 8)).transpose(1, 2) for part in (self.q, self.k, self.v)]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        deep = deep + mixed.transpose(1, 2).reshape(deep.shape)
        up = self.up(F.interpolate(deep, scale_factor=2.0, mode="nearest"))
        return self.out(torch.cat([up, wide], 1))


class StateSpace(nn.Module):
    """A gated diagonal recurrence by sums of its logarithms, behind a causal convolution over the last three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.enter = nn.Embedding(100, 16), nn.Linear(16, 32)
        self.mix, self.rate, self.leave = (
            nn.Conv1d(16, 16, 3, padding=2, groups=16),
            nn.Linear(16, 16),
            nn.Linear(16, 100),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x, gate = self.enter(self.embed(tokens)).chunk(2, -1)
        x = F.silu(self.mix(x.transpose(1, 2))[..., : tokens.shape[1]].transpose(1, 2))
        decay = torch.cumsum(-0.1 * F.softplus(self.rate(x)), 1)
        state = torch.cumsum(x * torch.exp(-decay), 1) * torch.exp(decay)
        return self.leave(state * F.silu(gate))


def _transformers(config: str, model: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**settings))

    return build


def _tokens(batch: int, length: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, 90, (batch, length))}


def _pairs(batch: int, length: int) -> dict[str, Tensor]:
    return {**_tokens(batch, length), "decoder_input_ids": torch.randint(3, 90, (batch, max(length // 2, 2)))}


def _image(name: str) -> Callable[[int, int], dict[str, Tensor]]:
    return lambda batch, length: {name: torch.randn(batch, 3, 2 * (8 + length // 4), 2 * (8 + length // 5))}


_WIDTHS = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_NO_DROPS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], dict[str, Tensor]]]] = {
    "BERT": (_transformers("BertConfig", "BertForMaskedLM", max_position_embeddings=80, **_WIDTHS, **_NO_DROPS), _tokens),
    "GPT-2": (
        _transformers("GPT2Config", "GPT2LMHeadModel", vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=80,
                      resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        _tokens,
    ),
    "T5": (
        _transformers("T5Config", "T5ForConditionalGeneration", vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2,
                      num_heads=4, dropout_rate=0.0),
        _pairs,
    ),
    "ResNet": (
        _transformers("ResNetConfig", "ResNetForImageClassification", embedding_size=8, hidden_sizes=[8, 16],
                      depths=[1, 1], num_labels=5),
        _image("pixel_values"),
    ),
    "U-Net": (UNet, _image("x")),
    "state space": (StateSpace, lambda batch, length: {"tokens": torch.randint(0, 100, (batch, length))}),
}  # fmt: skip


def _values(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result.logits


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_batches_and_lengths_give_eagers_values_with_few_programs(family, training):
    torch.manual_seed(0)
    build, inputs = FAMILIES[family]
    model, choose = build().train(training), random.Random(family)
    compiled = torch.compile(model, backend="tpu", dynamic=True, options={"buckets": "pow2"})
    with torch._dynamo.config.patch(recompile_limit=4), torch.set_grad_enabled(training):
        for _ in range(PAIRS):
            given = inputs(choose.randint(2, BATCH), choose.randint(4, LENGTH))
            before = {name: buffer.clone() for name, buffer in model.named_buffers()}
            ours = _values(compiled(**given))
            after = {name: buffer.clone() for name, buffer in model.named_buffers()}
            model.load_state_dict(before, strict=False)
            theirs = _values(model(**given))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(after, dict(model.named_buffers()), rtol=1e-4, atol=1e-5)
            if training:
                weights = list(model.parameters())
                grads = [
                    torch.autograd.grad(values.square().mean(), weights, allow_unused=True) for values in (ours, theirs)
                ]
                torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)
    stats = tpu_dynamo.stats()
    graphs = sum(stats.graphs.values())
    assert graphs <= (2 if training else 1) * 2, "one trace for all sizes, and one more for sizes of one"
    lengths = [LENGTH] if "Net" not in family else [2 * (8 + LENGTH // 4), 2 * (8 + LENGTH // 5)]
    sizes = math.prod(math.ceil(math.log2(largest)) for largest in (BATCH, *lengths))
    assert stats.lowerings <= graphs * sizes
    assert set(stats.buckets) == {"padded", "calls"}, "every graph is padded"
