"""Libtpu's code for attention to a static cache: one kernel, and in plain form.

    python -m tests.benchmarks.cached_attention [--target v5e:2x2]

A row is written to the cache of each of 8 sequences and attention computed to what is there, bfloat16, as in a layer of
a decode step. The plain form's cycles are libtpu's estimate; the kernel's are of its CostEstimate as if the cache were
full, and of libtpu's estimate of what is around it. Needs libtpu; no chip.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

import tpu_dynamo

# Heads, heads of keys, features, and the cache's length.
SHAPES = [(32, 8, 128, 4096), (32, 8, 128, 32_768), (32, 8, 64, 8192), (12, 12, 64, 4096)]
BATCH = 8


def step(key: Tensor, value: Tensor, query: Tensor, new: Tensor, place: Tensor, padding: Tensor) -> Tensor:
    """Write a row to both caches, and attend to the rows up to it that are no padding."""
    key.index_copy_(2, place, new)
    value.index_copy_(2, place, new)
    mask = (torch.arange(key.shape[2], device=key.device) <= place[:, None]) & padding
    return F.scaled_dot_product_attention(query, key, value, mask[:, None, None], enable_gqa=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="v5e:2x2")
    target = parser.parse_args().target
    print("heads, of keys, features, cache | cycles: kernel | around it | plain")
    for heads, key_heads, features, length in SHAPES:

        def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
            return torch.empty(shape, dtype=dtype, device="meta")

        key, value = (empty(BATCH, key_heads, length, features) for _ in range(2))
        query, new = (empty(BATCH, each, 1, features) for each in (heads, key_heads))
        more = (empty(1, dtype=torch.int64), empty(BATCH, length, dtype=torch.bool))
        costs = []
        for form in ("auto", "plain"):
            (graph,) = tpu_dynamo.compile_for(
                step, (key, value, query, new, *more), target=target, options={"attention": form}
            )
            costs.append(graph.cost)
        kernel = sum(costs[0].kernels.values())
        print(f"{heads}, {key_heads}, {features}, {length} | {kernel} | {costs[0].cycles - kernel} | {costs[1].cycles}")


if __name__ == "__main__":
    main()
