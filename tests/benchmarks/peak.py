"""The share of XLA's figure for a program's memory that the explanation of its peak gives to named values.

    python -m tests.benchmarks.peak [--target cpu] [--layers 12] [--check]

GPT-2 124M and ResNet-50 (transformers) for inference and training, and a whole training step of GPT-2 with AdamW. --check also
compiles what the remedies propose, for what they really gain.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import tpu_dynamo


def gpt2(layers: int) -> torch.nn.Module:
    """GPT-2 124M, or fewer of its layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=layers, use_cache=False))


def resnet50() -> torch.nn.Module:
    """ResNet-50."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


def loss(output: Any) -> torch.Tensor:
    """A scalar of GPT-2's logits."""
    return output.logits.logsumexp(-1).mean()


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """AdamW as it comes."""
    return torch.optim.AdamW(parameters)


def main() -> None:
    """Print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()

    def show(name: str, *model_and_inputs: Any, **how: Any) -> list[tpu_dynamo.TargetGraph]:
        graphs = tpu_dynamo.compile_for(*model_and_inputs, target=chosen.target, explain=True, **how)
        for graph in graphs:
            peak = graph.peak
            assert peak is not None
            owners = ", ".join(f"{owner} {nbytes / 2**20:,.1f}" for owner, nbytes in list(peak.by_owner().items())[:4])
            print(f"{name} {graph.role}: {graph.memory.total / 2**20:,.1f} MiB, {peak.explained:.2%} of it explained; "
                  f"MiB of {owners}", flush=True)  # fmt: skip
        return graphs

    tokens, images = torch.zeros(8, 256, dtype=torch.long), torch.zeros(8, 3, 224, 224)
    show("GPT-2", gpt2(chosen.layers).eval(), (tokens,))
    show("GPT-2", gpt2(chosen.layers).train(), (tokens,), training=True, loss=loss)
    show("ResNet-50", resnet50().eval(), (images,))
    show("ResNet-50", resnet50().train(), (images,), training=True, loss=loss)
    (step,) = show("GPT-2", gpt2(chosen.layers).train(), (), {"input_ids": tokens}, optimizer=adamw, loss=loss)
    if chosen.check:
        for remedy in step.remedies:
            print(f"  {remedy}")
        for what, model, batch in (
            ("checkpointed", checkpointed(gpt2(chosen.layers).train()), tokens),
            ("half the batch", gpt2(chosen.layers).train(), tokens[:4]),
            ("bfloat16", gpt2(chosen.layers).train().to(torch.bfloat16), tokens),
        ):
            (other,) = tpu_dynamo.compile_for(
                model, (), {"input_ids": batch}, target=chosen.target, optimizer=adamw, loss=loss
            )
            print(f"  {what}: really {(step.memory.total - other.memory.total) / 2**20:,.1f} MiB less", flush=True)


def checkpointed(model: Any) -> torch.nn.Module:
    """The model with each of its blocks checkpointed."""
    model.gradient_checkpointing_enable()
    return model


if __name__ == "__main__":
    main()
