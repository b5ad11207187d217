"""A ResNet as PT2E quantises it beside bfloat16 on a TPU: cycles by libtpu's estimates, and bytes of arguments.

    python -m tests.benchmarks.quantised_convolutions [--target v5e:2x2] [--depth 18] [--images 8] [--size 224]

Needs libtpu, torchao and transformers; no chip, and takes minutes. Weights are random, and grids those of random
images: neither changes what is counted.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import tpu_dynamo

from .quantised import _PRODUCT


class Scores(torch.nn.Module):
    """A ResNet of 18 or 50 layers, whose result is the scores alone."""

    def __init__(self, depth: int) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__init__()
        config = ResNetConfig(num_labels=1000)
        if depth == 18:
            config = ResNetConfig(
                num_labels=1000, layer_type="basic", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]
            )
        self.network = ResNetForImageClassification(config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores, [images, 1000]."""
        return self.network(images).logits


def quantised(depth: int, images: torch.Tensor) -> torch.nn.Module:
    """Return the network as PT2E and our quantizer convert it."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from tpu_dynamo.integrations.pt2e import TPUQuantizer

    prepared = prepare_pt2e(torch.export.export(Scores(depth).eval(), (images,)).module(), TPUQuantizer())
    prepared(images)
    return convert_pt2e(prepared)


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--target", default="v5e:2x2")
    parser.add_argument("--depth", type=int, choices=(18, 50), default=18)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    images = torch.randn(given.images, 3, given.size, given.size)
    networks: dict[str, tuple[Any, torch.Tensor]] = {
        "bfloat16": (Scores(given.depth).eval().bfloat16(), images.bfloat16()),
        "int8 by PT2E": (quantised(given.depth, images), images),
    }
    table = Table(
        title=f"ResNet-{given.depth}, {given.images} images of {given.size} x {given.size}, on {given.target}"
    )
    for name in ("", "cycles", "of bfloat16", "arguments", "of its", "temporaries", "int8 products"):
        table.add_column(name, justify="right" if name else "left")
    plain = None
    for name, (network, operand) in networks.items():
        with torch.no_grad():
            (graph,) = tpu_dynamo.compile_for(network, (operand,), target=given.target)
        plain = plain or graph
        ratios = graph.cost.cycles / plain.cost.cycles, graph.memory.arguments / plain.memory.arguments
        table.add_row(
            name, f"{graph.cost.cycles:,}", f"{ratios[0]:.3f}", f"{graph.memory.arguments / 1e6:,.0f} MB",
            f"{ratios[1]:.3f}", f"{graph.memory.temporaries / 1e6:,.0f} MB",
            str(len(_PRODUCT.findall(graph.optimized_hlo))),
        )  # fmt: skip
        print(name, graph.cost, flush=True)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
