"""The share of a forward graph's saved activations that its backward could give to gradients, if they were donated.

    python -m tests.benchmarks.donation

XLA lets a result take the memory of a donated argument of the same shape and dtype, and of no other. Nothing is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import transformers
from torch.fx import GraphModule

from tpu_dynamo._torch_compat import static_inputs
from tpu_dynamo.ahead_of_time.capture import capture


def mebibytes(tensors: Iterable[torch.Tensor]) -> float:
    """The size of all of them."""
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors) / 2**20


def show(name: str, model: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Print what one model's backward graph takes, gives, and could share."""

    def visit(role: str, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Any) -> None:
        if role != "backward":
            return
        graph, static = graph_module.graph, static_inputs(graph_module, backward=True)
        taken = [n.meta["val"] for i, n in enumerate(graph.find_nodes(op="placeholder")) if i not in static]
        saved = [value for value in taken if isinstance(value, torch.Tensor)]
        given = [node.meta["val"] for node in graph.output_node().all_input_nodes]
        free = Counter((value.shape, value.dtype) for value in saved)
        shared = []
        for value in given:
            if free[value.shape, value.dtype]:
                free[value.shape, value.dtype] -= 1
                shared.append(value)
        print(
            f"{name}: saved {mebibytes(saved):.0f} MiB, gradients {mebibytes(given):.0f} MiB, "
            f"could share {mebibytes(shared):.1f} MiB"
        )

    capture(model.train(), (inputs,), None, visit, training=True)


def main() -> None:
    """Look at three models."""
    t = transformers
    tokens = torch.randint(0, 30000, (4, 256))
    show("GPT-2, 4 layers", t.GPT2LMHeadModel(t.GPT2Config(n_layer=4, use_cache=False)), tokens)
    show("BERT, 4 layers", t.BertModel(t.BertConfig(num_hidden_layers=4)), tokens)
    show("ResNet-50", t.ResNetModel(t.ResNetConfig()), torch.randn(8, 3, 224, 224))


if __name__ == "__main__":
    main()
