"""Generate text greedily with GPT-2 through backend="tpu", token by token as eager does.

    python examples/generate.py

The model is transformers' GPT-2, built from a configuration and trained here for a few seconds on the Zen of Python,
byte by byte, so that nothing is downloaded and the text means something.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import time

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import tpu_dynamo

WINDOW = 56


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


@torch.no_grad()
def generate(model: torch.nn.Module, prompt: Tensor, count: int) -> Tensor:
    """`count` more tokens, each the likeliest after the last WINDOW; sizes grow until the window is full."""
    tokens = prompt
    for _ in range(count):
        logits = model(tokens[:, -WINDOW:], use_cache=False).logits
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
    return tokens


def main() -> None:
    """Train, generate twice, compare token by token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    started = time.perf_counter()
    loss = train(model, zen().encode())
    print(f"trained in eager to a loss of {loss:.3f} in {time.perf_counter() - started:.1f} s")
    model.eval()
    prompt = torch.tensor([list(b"Beautiful is better than ugly.\nExplicit is better")])
    compiled = torch.compile(model, backend="tpu", dynamic=True)
    results = {}
    for name, function in (("eager", model), ("compiled", compiled)):
        started = time.perf_counter()
        results[name] = generate(function, prompt, 80)
        print(f"{name:9} {time.perf_counter() - started:.2f} s")
    print(bytes(results["compiled"][0].tolist()).decode(errors="replace"))
    equal = torch.equal(results["eager"], results["compiled"])
    print(f"identical token by token: {equal}")
    stats = tpu_dynamo.stats()
    print(f"graphs {stats.graphs}, lowerings {stats.lowerings}, XLA compiles {stats.xla_compiles}")
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
