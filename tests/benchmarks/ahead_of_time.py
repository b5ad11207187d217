"""Time and memory to capture and lower Llama-3-8B without its weights: `python -m tests.benchmarks.ahead_of_time 32`."""

from __future__ import annotations

import resource
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tpu_dynamo.ahead_of_time.target_graphs import lower_model
from tpu_dynamo.options import Options


def llama_3_8b(layers: int) -> tuple[LlamaForCausalLM, torch.Tensor]:
    """The model in bfloat16 with so many of its 32 layers, and 2,048 tokens, all on the meta device."""
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_hidden_layers=layers,
        vocab_size=128256,
        use_cache=False,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).to(torch.bfloat16).eval(), torch.empty(1, 2048, dtype=torch.int64)


def main() -> None:
    """Print the seconds from the call to StableHLO, and the most memory that the process had."""
    layers = int(sys.argv[1])
    model, tokens = llama_3_8b(layers)
    started = time.perf_counter()
    lower_model(model, (tokens,), None, "tpu", Options(target="v5e:2x2"))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{layers} layers: {seconds:.1f} s to StableHLO, {peak:.2f} GiB resident at most")


if __name__ == "__main__":
    main()
