"""Inputs that share memory to which a graph writes, in the cases that AOTAutograd computes wrongly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch._functorch._aot_autograd.input_output_analysis import compute_overlapping_inputs
from torch._functorch._aot_autograd.schemas import AOTConfig, ViewAndMutationMeta

from tpu_dynamo_lowering import UnsupportedInput


def refuse_reread_aliases(
    inputs: Sequence[Any], names: Sequence[str], config: AOTConfig, metadata: ViewAndMutationMeta
) -> None:
    """Raise UnsupportedInput for inputs that reinterpret memory of another input to which the graph writes.

    Conjugated and negated views do, and views as another dtype. AOTAutograd makes one input of those that share memory,
    and views of it by sizes and strides alone: silently, they would have other values. inputs: fake tensors, and values
    that are no tensors; names: theirs in the user's code; metadata: AOTAutograd's of the graph.
    """
    memory: dict[int, list[int]] = defaultdict(list)
    for i, value in enumerate(inputs):
        if isinstance(value, torch.Tensor):
            memory[value.untyped_storage()._cdata].append(i)
    for sharing in memory.values():
        written = [i for i in sharing if metadata.input_info[i].mutates_data]
        first = inputs[sharing[0]]
        reread = [i for i in sharing if _is_lazy(inputs[i]) or inputs[i].dtype != first.dtype]
        if written and reread and len(sharing) > 1 and _overlap(inputs, sharing, config):
            other = next(i for i in sharing if i != reread[0])
            raise UnsupportedInput(
                f"inputs {names[reread[0]]} and {names[other]}",
                "have one memory, which one of them reads conjugated, negated or as another dtype, and the function "
                f"writes to {names[written[0]]}",
                "pass one of them and take the other view inside of the compiled function, or pass a copy, as\n"
                "  .clone() makes one",
            )


def _is_lazy(tensor: torch.Tensor) -> bool:
    return tensor.is_conj() or tensor.is_neg()


def _overlap(inputs: Sequence[Any], sharing: Sequence[int], config: AOTConfig) -> bool:
    """Return True if some of these inputs share bytes; of several dtypes, if one begins before another ends."""
    if len({inputs[i].dtype for i in sharing}) == 1:
        return len(compute_overlapping_inputs(config, list(inputs), list(sharing))) > 1
    spans = sorted(_span(inputs[i]) for i in sharing if inputs[i].numel())
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.dtype.itemsize, (start + int(last) + 1) * tensor.dtype.itemsize
