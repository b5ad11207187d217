"""Libtpu's answer to long contexts: a stack of Llama-3-8B's layers, with attention as one kernel and in plain form.

    python -m tests.benchmarks.long_contexts [--tokens 32768] [--layers 4] [--words 128256] [--target v5e:2x2]
    python -m tests.benchmarks.long_contexts --model gemma2 [--layers 2]

The second is Gemma 2 9B of transformers, with `attn_implementation="eager"`: layers of 3584, 16 heads of 256 and 8 of
keys, 14,336 inner features, scores within 50, every other layer with a window of 4,096; 256,000 words, in inference.
Layers of 4096, 32 heads and 8 of keys, 14,336 inner features, bfloat16, batch 1, without values. Inference begins with
tokens and gives the last one's logits. Training is `train_step` with SGD and checkpointed layers, of the mean square of
what the layers give, and with `--words` of the usual loss, taken in parts that are checkpointed too. Needs libtpu; no
chip.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tpu_dynamo._torch_compat import fake_copies
from tpu_dynamo.ahead_of_time.target_graphs import lower_model
from tpu_dynamo.artifacts import Artifacts
from tpu_dynamo.graph.lowering import lower_graph
from tpu_dynamo.graph.prepare import BoxedCallable, PreparedGraph
from tpu_dynamo.options import Options
from tpu_dynamo.training.step import TrainStep
from tpu_dynamo_lowering import AttentionForm
from tpu_dynamo_runtime import Compiler, DoesNotFit, cost_of, open_compiler

WIDTH, HEADS, KEY_HEADS, INNER, WORDS = 4096, 32, 8, 14_336, 128_256
HEAD = WIDTH // HEADS
PART = 4096
# Without kernels of libtpu's own, which have no estimate.
FLAGS = (("xla_tpu_enable_flash_attention", "False"),)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Heads turned by the angles of their positions."""
    low, high = x.chunk(2, -1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Layer(nn.Module):
    """One layer of Llama 3."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH, eps=1e-5) for _ in range(2))
        self.query, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(WIDTH, KEY_HEADS * HEAD, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        """[batch, tokens, width], causal."""
        y = self.norms[0](x)
        query, key, value = (
            each(y).unflatten(-1, (-1, HEAD)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        query, key = rotated(query, angles), rotated(key, angles)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Stack(nn.Module):
    """Layers, and an embedding and a head where there are words."""

    def __init__(self, layers: int, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH) if words else None
        self.head = nn.Linear(WIDTH, words, bias=False) if words else None
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)

    def features(self, tokens: Tensor) -> Tensor:
        """The last layer's results, normed; each layer is checkpointed where there are gradients."""
        x = self.embedding(tokens) if self.embedding is not None else tokens
        places = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        frequencies = 500_000 ** (-torch.arange(0, HEAD, 2, device=x.device, dtype=torch.float32) / HEAD)
        angles = places[:, None] * frequencies
        for layer in self.layers:
            x = checkpoint(layer, x, angles, use_reentrant=False) if torch.is_grad_enabled() else layer(x, angles)
        return self.norm(x)

    def forward(self, tokens: Tensor, following: Tensor | None = None) -> Tensor:
        """The logits of the last token, or the mean loss; no more than a part's logits are there at a time."""
        features = self.features(tokens)
        if self.head is None:
            return features.float().square().mean()
        if following is None:
            return self.head(features[:, -1])
        parts = zip(features[0].split(PART), following[0].split(PART), strict=True)
        losses = [checkpoint(self.part_of_loss, *part, use_reentrant=False) for part in parts]
        return torch.stack(losses).sum() / following.numel()

    def part_of_loss(self, x: Tensor, following: Tensor) -> Tensor:
        """The summed loss of some tokens."""
        return F.cross_entropy(self.head(x).float(), following, reduction="sum")


def stack(layers: int, words: int) -> Stack:
    """The model without values."""
    with torch.device("meta"):
        return Stack(layers, words).bfloat16()


class Gemma(nn.Module):
    """Gemma 2: the logits of the last token, or in training the mean square of what the layers give."""

    def __init__(self, layers: int):
        super().__init__()
        from transformers import Gemma2Config, Gemma2ForCausalLM

        config = Gemma2Config(
            vocab_size=256_000, hidden_size=3584, intermediate_size=INNER, num_hidden_layers=layers,
            num_attention_heads=16, num_key_value_heads=8, head_dim=256, query_pre_attn_scalar=256,
            sliding_window=4096, attn_logit_softcapping=50.0, use_cache=False, attn_implementation="eager",
        )  # fmt: skip
        self.model = Gemma2ForCausalLM(config)
        self.width = config.hidden_size
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens in inference; in training [1, tokens, width], what an embedding would give."""
        if tokens.is_floating_point():
            return self.model.model(inputs_embeds=tokens).last_hidden_state.float().square().mean()
        return self.model(tokens, logits_to_keep=1).logits


def gemma(layers: int, words: int) -> Gemma:
    """The model without values; in training without words' embeddings and head."""
    with torch.device("meta"):
        model = Gemma(layers).bfloat16()
    if not words:
        model.model.model.embed_tokens = model.model.lm_head = nn.Identity()  # pyright: ignore
    return model


def inference(model: nn.Module, tokens: int, words: int, attention: AttentionForm, compiler: Compiler) -> bytes:
    """Lower a call."""
    ids = torch.zeros(1, tokens, dtype=torch.int64, device="meta")
    options = Options(attention=attention)
    with torch.no_grad():
        (graph,) = lower_model(model.eval(), (ids,), None, "tpu", options, fast_memory=compiler.fast_memory)
    return graph.program.stablehlo


def training(model: nn.Module, tokens: int, words: int, attention: AttentionForm, compiler: Compiler) -> bytes:
    """Lower a whole step."""
    steps: list[PreparedGraph] = []

    def keep_step(step: PreparedGraph) -> BoxedCallable:
        steps.append(step)
        values: Any = step.module.graph.output_node().args[0]
        return lambda _: [torch.empty_like(value.meta["val"]) for value in values]

    width = model.width if isinstance(model, Gemma) else WIDTH
    ids, hidden = torch.zeros(1, tokens, dtype=torch.int64), torch.zeros(1, tokens, width, dtype=torch.bfloat16)
    with fake_copies(model, (ids, ids) if words else (hidden,), "tpu") as batch:
        TrainStep(model, torch.optim.SGD(model.parameters(), lr=1e-4), None, None, None, keep_step)(tuple(batch))
    artifacts = Artifacts(steps[0].name)
    return lower_graph(steps[0], {}, "tpu", artifacts, compiler.fast_memory, attention).stablehlo


def report(name: str, program: bytes, compiler: Compiler) -> None:
    """Compile and print."""
    started = time.perf_counter()
    try:
        compiled = compiler.compile(program, FLAGS)
    except DoesNotFit as refused:
        needed, available = refused.needed / 2**30, refused.available / 2**30
        print(f"{name}: needs {needed:.2f} GiB and does not fit: there are {available:.2f}", flush=True)
        return
    cost, memory = cost_of(compiled.hlo, compiled.flops, compiled.chip), compiled.memory
    seconds = time.perf_counter() - started
    print(
        f"{name}: {memory.total / 2**30:.2f} GiB of {memory.available / 2**30:.2f}, temporaries"
        f" {memory.temporaries / 2**30:.2f}; {cost.cycles or 0:,} cycles, of them {sum(cost.kernels.values()):,} of"
        f" kernels by their own estimate; without any {cost.unestimated}; compiled in {seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    """Compile every program, and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--words", type=int, default=0, help="of training; inference has all")
    parser.add_argument("--target", default="v5e:2x2")
    parser.add_argument("--forms", default="auto,plain")
    parser.add_argument("--model", choices=["llama3", "gemma2"], default="llama3")
    parser.add_argument("--only", choices=["inference", "training"])
    given = parser.parse_args()
    build = stack if given.model == "llama3" else gemma
    with open_compiler(given.target) as compiler:
        for make, words in ((inference, WORDS), (training, given.words)):
            for form in given.forms.split(","):
                if given.only in (None, make.__name__):
                    program = make(build(given.layers, words), given.tokens, given.words, form, compiler)
                    report(f"{make.__name__}, {form}", program, compiler)


if __name__ == "__main__":
    main()
