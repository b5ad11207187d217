"""Inputs of one memory that a graph writes to, where AOTAutograd would compute something else."""

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
    """Refuse inputs that read another input's memory otherwise, where the graph writes to that memory.

    Conjugated and negated views do, and views as another dtype. AOTAutograd takes inputs of one memory as one, and
    makes views of that by sizes and strides alone: silently, they would have other values. inputs: fake tensors, and
    what is no tensor; names: as the user's code has them; metadata: what AOTAutograd knows of them. Raises
    UnsupportedInput.
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
    """Whether some of these inputs have bytes in common; of several dtypes, whether one begins before another ends."""
    if len({inputs[i].dtype for i in sharing}) == 1:
        return len(compute_overlapping_inputs(config, list(inputs), list(sharing))) > 1
    spans = sorted(_span(inputs[i]) for i in sharing if inputs[i].numel())
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.dtype.itemsize, (start + int(last) + 1) * tensor.dtype.itemsize
