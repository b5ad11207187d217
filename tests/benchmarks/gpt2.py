"""GPT-2 (124M), forward and training step: on the device compiled, or by PyTorch in eager and by Inductor on CUDA.

    python -m tests.benchmarks.gpt2 [--device tpu] [--batch 8] [--length 512] [--layers 12] [--dtypes bfloat16,float32]

With `--device cuda` it runs in an environment of its own, with PyTorch for CUDA and without this package.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal attention and a feed-forward network, each after a layer norm and around a residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.attend(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class GPT2(nn.Module):
    """A decoder with learnt positions and tied embeddings."""

    def __init__(self, layers: int, width: int = 768, heads: int = 12, tokens: int = 50257, length: int = 1024):
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.place(places))))


def loss_of(logits: Tensor, following: Tensor) -> Tensor:
    """The mean cross entropy, in float32."""
    return F.cross_entropy(logits.flatten(0, -2).float(), following.flatten())


def ways(device: str, layers: int, dtype: torch.dtype, x: Tensor, y: Tensor) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each way to compute it, by name, with a model of its own for each device and each compiler."""

    def start(compiled: bool) -> tuple[Any, Any, Any]:
        model = GPT2(layers).to(device, dtype)
        run = torch.compile(model, backend="tpu" if device == "tpu" else "inductor") if compiled else model
        return model, run, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    for compiled in (True,) if device == "tpu" else (False, True):
        model, run, optimizer = start(compiled)
        name = "compiled" if compiled else "eager"

        def forward(run: Any = run) -> Tensor:
            with torch.no_grad():
                return run(x)

        def step(run: Any = run, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            loss_of(run(x), y).backward()
            optimizer.step()

        yield f"forward, {name}", forward
        yield f"ordinary loop, {name}", step
    if device == "tpu":
        import tpu_dynamo

        model, _, optimizer = start(False)
        whole = tpu_dynamo.train_step(model, optimizer, loss_of)
        yield "train_step", lambda: whole(x, y)


def milliseconds(function: Callable[[], Any], wait: Callable[[], None], calls: int) -> float:
    """The median of three means over so many calls, each with its end waited for."""
    for _ in range(3):
        function()
    means = []
    for _ in range(3):
        wait()
        started = time.perf_counter()
        for _ in range(calls):
            function()
        wait()
        means.append((time.perf_counter() - started) / calls * 1e3)
    return statistics.median(means)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="tpu", choices=("tpu", "cuda"))
    parser.add_argument("--dtypes", default="bfloat16,float32")
    for name, default in {"batch": 8, "length": 512, "layers": 12, "calls": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if given.device == "tpu":
        import tpu_dynamo  # noqa: F401, which registers the device
    accelerator = getattr(torch, given.device)
    print(f"{accelerator.get_device_name()}, torch {torch.__version__}")
    torch.manual_seed(0)
    tokens = torch.randint(0, 50257, (given.batch, given.length + 1))
    x, y = tokens[:, :-1].contiguous().to(given.device), tokens[:, 1:].contiguous().to(given.device)
    for dtype in given.dtypes.split(","):
        for name, function in ways(given.device, given.layers, getattr(torch, dtype), x, y):
            print(f"{name}, {dtype}: {milliseconds(function, accelerator.synchronize, given.calls):.2f} ms", flush=True)


if __name__ == "__main__":
    main()
