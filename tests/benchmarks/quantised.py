"""Quantised decoders beside bfloat16 on a TPU: cycles by libtpu's estimates, and bytes of arguments.

    python -m tests.benchmarks.quantised [--match REGEX] [--target v5e:2x2] [--tokens 2048] [--layers 2] [--widths 1b]

Needs libtpu and torchao; no chip, and takes minutes. Decoders have the widths of Llama 3.2 1B, Llama 3 8B or TinyLlama
1.1B and random weights on the meta device, and compute the scores of each token of one sequence. Their linear layers
are quantised, the head too; "and table" also the embedding, in int8. Compiled with `xla_tpu_enable_flash_attention`
off, since libtpu's own attention has no cycles.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import tpu_dynamo

_HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8}
WIDTHS: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 128256, **_HEADS},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256, **_HEADS},
    "tiny": {"hidden_size": 2048, "intermediate_size": 5632, "vocab_size": 32000, **_HEADS, "num_key_value_heads": 4},
}
# Of the TPU's own product of two int8 tensors, as optimised HLO has it: operands are named, so their types are before.
_PRODUCT = re.compile(r"= s32\[[^ ]* (?:convolution|dot)\(")


def decoder(widths: str, layers: int) -> torch.nn.Module:
    """Return a decoder in bfloat16 without weights, whose result is the scores alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = LlamaConfig(**WIDTHS[widths], num_hidden_layers=layers, use_cache=False)
            self.decoder = LlamaForCausalLM(config)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.decoder(ids).logits

    with torch.device("meta"):
        return Scores().to(torch.bfloat16).eval()


def ways() -> dict[str, Callable[[torch.nn.Module], None]]:
    """Return what is done to the decoder, by name."""
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    def linear(config: Callable[[], Any]) -> Callable[[torch.nn.Module], None]:
        return lambda model: quantize_(model, config())

    def with_table(config: Callable[[], Any]) -> Callable[[torch.nn.Module], None]:
        def quantise(model: torch.nn.Module) -> None:
            quantize_(model, config())
            quantize_(model, Int8WeightOnlyConfig(), lambda module, _: isinstance(module, torch.nn.Embedding))

        return quantise

    return {
        "bfloat16": lambda model: None,
        "int8 weights": linear(Int8WeightOnlyConfig),
        "int8 weights and table": with_table(Int8WeightOnlyConfig),
        "int8 dynamic": linear(Int8DynamicActivationInt8WeightConfig),
        "int8 dynamic and table": with_table(Int8DynamicActivationInt8WeightConfig),
        "float8 weights": linear(Float8WeightOnlyConfig),
    }


def count(quantise: Callable[[torch.nn.Module], None], given: argparse.Namespace) -> dict[str, Any]:
    """Compile a decoder and count it."""
    model = decoder(given.widths, given.layers)
    quantise(model)
    ids = torch.empty(1, given.tokens, dtype=torch.int64, device="meta")
    options = {"xla_flags": {"xla_tpu_enable_flash_attention": False}}
    (graph,) = tpu_dynamo.compile_for(model, (ids,), target=given.target, options=options)
    return {
        "cycles": graph.cost.cycles,
        "arguments": graph.memory.arguments,
        "temporaries": graph.memory.temporaries,
        "bytes": graph.cost.bytes_accessed,
        "products": len(_PRODUCT.findall(graph.optimized_hlo)),
    }


def show(counts: dict[str, dict[str, Any]], title: str) -> None:
    """Print a table with the ratios to bfloat16."""
    table = Table(title=title, caption="products: of two int8 matrices, with an int32 result")
    for name in ("", "cycles", "of bfloat16", "arguments", "of its", "temporaries", "bytes", "products"):
        table.add_column(name, justify="right" if name else "left")
    plain = counts["bfloat16"]
    for name, row in counts.items():
        table.add_row(
            name, f"{row['cycles']:,}", f"{row['cycles'] / plain['cycles']:.3f}", f"{row['arguments'] / 1e6:,.0f} MB",
            f"{row['arguments'] / plain['arguments']:.3f}", f"{row['temporaries'] / 1e6:,.0f} MB",
            f"{row['bytes'] / 1e6:,.0f} MB", str(row["products"]),
        )  # fmt: skip
    Console(width=140).print(table)


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--match", default=".*", help="names of ways; bfloat16 is always counted")
    parser.add_argument("--target", default="v5e:2x2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--widths", choices=WIDTHS, default="1b")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    counts: dict[str, dict[str, Any]] = {}
    for name, quantise in ways().items():
        if name == "bfloat16" or re.fullmatch(given.match, name):
            counts[name] = count(quantise, given)
            if given.json is not None:
                given.json.write_text(json.dumps(counts, indent=1), encoding="utf-8")
    show(counts, f"{given.layers} layers of Llama {given.widths}, {given.tokens} tokens, on {given.target}")


if __name__ == "__main__":
    main()
