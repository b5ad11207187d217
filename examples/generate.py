"""Generate text greedily with GPT-2 in eager PyTorch and in four compiled ways: tokens per second, programs, equality.

    python examples/generate.py

The model is transformers' GPT-2, built from a configuration and trained here for a few seconds on the Zen of Python,
byte by byte, so that nothing is downloaded and the text means something.
"""

from __future__ import annotations

import codecs
import contextlib
import copy
import io
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, StaticCache

import tpu_dynamo

WINDOW = 56
COUNT = 36


def zen() -> str:
    """The text of `import this`, which Python carries."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13")


def train(model: GPT2LMHeadModel, text: bytes, steps: int = 120) -> float:
    """The loss after a few seconds of AdamW in eager PyTorch on random windows of the text."""
    data = torch.tensor(list(text))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        starts = torch.randint(0, len(data) - WINDOW, (8,))
        batch = torch.stack([data[start : start + WINDOW] for start in starts])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def with_static_cache(model: Any, backend: str) -> Callable[[Tensor, int], Tensor]:
    """Decoding token by token with a cache of a fixed size: every step is the same program."""

    def step(token: Tensor, place: Tensor, cache: StaticCache) -> Tensor:
        return model(token, position_ids=place.view(1, 1), past_key_values=cache).logits[:, -1:].argmax(-1)

    compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)

    def decode(prompt: Tensor, count: int) -> Tensor:
        cache = StaticCache(config=model.config, max_cache_len=WINDOW)
        found = [model(prompt, past_key_values=cache).logits[:, -1:].argmax(-1)]
        place = torch.tensor(prompt.shape[1])
        for _ in range(count - 1):
            found.append(compiled(found[-1], place, cache))
            place += 1
        return torch.cat([prompt, *found], 1)

    return decode


def with_generate(model: Any) -> Callable[[Tensor, int], Tensor]:
    """Decoding by transformers' own generate, whose cache grows by one token in each step."""
    return lambda prompt, count: model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, do_sample=False
    )


def ways(model: GPT2LMHeadModel) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """The functions that decode, by name."""
    growing = copy.copy(model)
    growing.forward = torch.compile(model.forward, backend="tpu", dynamic=True, options={"buckets": "pow2"})
    return {
        "eager": with_generate(model),
        "Inductor, static cache": with_static_cache(model, "inductor"),
        "static cache": with_static_cache(model, "tpu"),
        "growing cache, buckets": with_generate(growing),
        "decode_loop": lambda prompt, count: tpu_dynamo.decode_loop(model, prompt, max_new_tokens=count),
    }


def main() -> None:
    """Train, generate in each way, compare token by token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=None, pad_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    started = time.perf_counter()
    loss = train(model, zen().encode())
    print(f"trained in eager to a loss of {loss:.3f} in {time.perf_counter() - started:.1f} s")
    model.eval()
    prompt = torch.tensor([list(b"Beautiful is better")])
    results: dict[str, Tensor] = {}
    print(f"{'':24} first call  tokens/s  programs of tpu")
    with torch.no_grad():
        for name, decode in ways(model).items():
            before = tpu_dynamo.stats()
            started = time.perf_counter()
            decode(prompt, COUNT)
            first = time.perf_counter() - started
            started = time.perf_counter()
            results[name] = decode(prompt, COUNT)
            speed = COUNT / (time.perf_counter() - started)
            programs = tpu_dynamo.stats().lowerings - before.lowerings
            print(f"{name:24} {first:8.1f} s  {speed:8.0f}  {programs}")
    print(bytes(results["decode_loop"][0].tolist()).decode(errors="replace"))
    equal = all(torch.equal(result, results["eager"]) for result in results.values())
    print(f"identical token by token: {equal}")
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
