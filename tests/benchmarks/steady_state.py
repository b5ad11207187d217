"""Inference of four models once everything is compiled: this backend, the same by hand in JAX, Inductor, eager.

`tpu, frozen` is this backend with options={"freeze": True}.

    python -m tests.benchmarks.steady_state [--json FILE] [--match REGEX]

Every way gives the same numbers, which is checked; all use every core.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers

from .jax_models import MODELS
from .side_by_side import seconds, show


def torch_models() -> dict[str, tuple[torch.nn.Module, torch.Tensor, Callable[[Any], torch.Tensor]]]:
    """Each model, an input, and which of its outputs counts."""
    t = transformers
    image = torch.randn(1, 3, 224, 224)
    config = t.ResNetConfig()
    return {
        "GPT-2 124M": (
            t.GPT2LMHeadModel(t.GPT2Config(use_cache=False)), torch.randint(0, 50257, (1, 128)), lambda o: o.logits
        ),
        "BERT-base": (
            t.BertModel(t.BertConfig(), add_pooling_layer=False), torch.randint(0, 30522, (1, 128)),
            lambda o: o.last_hidden_state,
        ),
        "ViT-base": (t.ViTModel(t.ViTConfig(), add_pooling_layer=False), image, lambda o: o.last_hidden_state),
        "ResNet-50": (t.ResNetModel(config), image, lambda o: o.pooler_output.flatten(1)),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--match", default=".*")
    given = parser.parse_args()
    torch.manual_seed(0)
    rows = {}
    for name, (model, x, choose) in torch_models().items():
        if not re.fullmatch(given.match, name):
            continue
        rows[name] = measure(MODELS[name], model.eval(), x, choose)
        show("one call", {name: rows[name]}, "ms", None)
    show("one call", rows, "ms", given.json)


WAYS = ("JAX by hand", "tpu", "tpu, frozen", "Inductor", "eager")


def way_of(
    way: str, by_hand: Any, model: torch.nn.Module, x: torch.Tensor, choose: Callable[[Any], torch.Tensor]
) -> Callable[[], Any]:
    """One of the ways to call a model on `x`."""
    if way == "JAX by hand":
        weights = {name: jax.numpy.asarray(value.numpy()) for name, value in model.state_dict().items()}
        given = jax.numpy.asarray(x.numpy().astype(np.int32) if x.dtype == torch.int64 else x.numpy())
        written = jax.jit(by_hand)
        return lambda: written(weights, given).block_until_ready()
    if way == "eager":
        return lambda: choose(model(x))
    backend, options = {"tpu": ("tpu", {}), "tpu, frozen": ("tpu", {"freeze": True}), "Inductor": ("inductor", {})}[way]
    compiled = torch.compile(copy.copy(model), backend=backend, options=options)
    return lambda: choose(compiled(x))


@torch.no_grad()
def measure(
    by_hand: Any, model: torch.nn.Module, x: torch.Tensor, choose: Callable[[Any], torch.Tensor]
) -> dict[str, float]:
    """The seconds of each way, after checking that all agree."""
    ways = {way: way_of(way, by_hand, model, x, choose) for way in WAYS}
    expected = ways["eager"]()
    for name, way in ways.items():
        torch.testing.assert_close(
            torch.from_numpy(np.array(way())), expected, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )
    return seconds(ways, rounds=9)


if __name__ == "__main__":
    main()
