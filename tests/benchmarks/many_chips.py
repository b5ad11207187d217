"""Llama-3 over many chips, ahead of time: memory, cycles and communication of a chip, and what compiling them took.

    python -m tests.benchmarks.many_chips train --target v5e:4x4 --layers 32
    python -m tests.benchmarks.many_chips serve --target v6e:2x4 --layers 80
    tpu-dynamo plan tests.benchmarks.many_chips:train_small --target v5e:4x4

`train` is a whole AdamW step of the 8B in bfloat16, FSDP over all chips with its blocks recomputed, a sequence of 4,096 a
chip. `serve` is the forward of the 70B, tensor parallel over all chips, one sequence of 2,048. Needs libtpu; no chip.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tpu_dynamo
from tpu_dynamo.formatting import format_bytes
from tpu_dynamo.planning.laying_out import lay_out
from tpu_dynamo.planning.layouts import Layout
from tpu_dynamo.planning.pairs import tensor_plan
from tpu_dynamo.planning.profile import blocks_of
from tpu_dynamo_runtime import find_topology

SHAPES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32},
    "70b": {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64},
    "small": {"hidden_size": 1024, "intermediate_size": 3584, "num_attention_heads": 8, "vocab_size": 8192},
}
LAYERS = {"8b": 32, "70b": 80, "small": 2}


def llama(shape: str, layers: int | None = None) -> LlamaForCausalLM:
    """Llama-3 of a shape with so many of its layers, in bfloat16, on the default device."""
    named = {"vocab_size": 128256, "num_key_value_heads": 8, **SHAPES[shape]}
    config = LlamaConfig(num_hidden_layers=layers or LAYERS[shape], use_cache=False, **named)
    return LlamaForCausalLM(config).to(torch.bfloat16)


def train_8b(layers: int = 32, rows: int = 1, length: int = 4096) -> Any:
    """The 8B and a batch, as `tpu-dynamo plan tests.benchmarks.many_chips:train_8b` takes them."""
    tokens = torch.empty(rows, length, dtype=torch.int64)
    return llama("8b", layers).train(), (), {"input_ids": tokens, "labels": tokens}


def train_small() -> Any:
    """A model of the same kind that libtpu compiles in minutes, and a batch."""
    tokens = torch.empty(4, 512, dtype=torch.int64)
    return llama("small").train(), (), {"input_ids": tokens, "labels": tokens}


def _training(layers: int, chips: int) -> tuple[Layout, Any]:
    layout = Layout(1, chips, 1, recompute=True)

    def build(mesh: Any) -> Any:
        model, args, kwargs = train_8b(layers)
        return lay_out(model, layout, tensor_plan(model, ()), blocks_of(model), mesh), args, kwargs

    return layout, build


def _serving(layers: int, chips: int) -> tuple[Layout, Any]:
    layout = Layout(1, 1, chips)

    def build(mesh: Any) -> Any:
        model = llama("70b", layers).eval()
        blocks = blocks_of(model)
        return lay_out(model, layout, tensor_plan(model, blocks), blocks, mesh), (
            torch.empty(1, 2048, dtype=torch.int64),
        )

    return layout, build


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=["train", "serve"])
    parser.add_argument("--target", default="v5e:4x4")
    parser.add_argument("--layers", type=int, default=2)
    given = parser.parse_args()
    topology = find_topology(given.target)
    assert topology is not None, given.target
    layout, build = (_training if given.what == "train" else _serving)(given.layers, topology.chips)
    optimizer = (lambda p: torch.optim.AdamW(p, lr=1e-4)) if given.what == "train" else None
    started = time.perf_counter()
    (graph,) = tpu_dynamo.compile_for(build, target=given.target, mesh=layout.mesh, optimizer=optimizer)
    seconds = time.perf_counter() - started
    peaks = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{given.what}, {given.layers} layers, {layout.name}, {given.target}: compiled in {seconds:.0f} s, {peaks[0]:.1f} "
          f"GiB here and {peaks[1]:.1f} GiB in libtpu's process")  # fmt: skip
    print(f"memory {format_bytes(graph.memory.total)}, fits: {graph.memory.fits}; {graph.memory}")
    if graph.memory.fits is False:
        return
    cost, found = graph.cost, graph.communication
    print(f"{cost.cycles:,} cycles, without an estimate: {cost.unestimated}")
    if found is not None:
        for name, share in (*found.by_axis().items(), *found.by_kind().items()):
            print(f"{name}: {format_bytes(share.nbytes)}, {share.seconds * 1e3:,.1f} ms, {share.count} collectives")
        (best, worst), (low, high) = found.step, found.share
        print(f"a step: {best * 1e3:,.0f} to {worst * 1e3:,.0f} ms, {low:.0%} to {high:.0%} of it waiting for chips")
        for place, share in list(found.by_line().items())[:6]:
            print(f"  {place}: {format_bytes(share.nbytes)}, {share.seconds * 1e3:,.1f} ms")


if __name__ == "__main__":
    main()
