"""A layout put into effect: a model's modules parallelised, checkpointed and sharded, by PyTorch's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.checkpoint import checkpoint

from .._torch_compat import pytree
from .layouts import Layout
from .pairs import TensorPlan


def lay_out(model: nn.Module, layout: Layout, plan: TensorPlan, blocks: Sequence[str], mesh: DeviceMesh) -> nn.Module:
    """Return a model laid out on a mesh of `layout.mesh`, in place: first split, then checkpointed, then sharded."""
    if layout.tensor > 1:
        styles = {
            "colwise": ColwiseParallel(), "rowwise": RowwiseParallel(),
            "embedding": RowwiseParallel(input_layouts=Replicate()),
            "head": ColwiseParallel(output_layouts=Replicate()),
        }  # fmt: skip
        parallelize_module(model, mesh["tensor"], {name: styles[style] for name, style in plan.styles.items()})
    data = tuple(name for name in layout.mesh if name != "tensor")
    for name in blocks:
        block = model.get_submodule(name)
        if layout.recompute:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if layout.data > 1:
            fully_shard(block, mesh=mesh[data])
    if layout.data > 1:
        fully_shard(model, mesh=mesh[data])
    return MicroBatches(model, layout.micro) if layout.micro > 1 else model


class MicroBatches(nn.Module):
    """A model that computes the mean of its loss over slices of a batch, one after the other.

    The backward computes each slice again, so that the activations of one are in memory at a time.
    """

    def __init__(self, model: nn.Module, slices: int):
        super().__init__()
        self.model = model
        self.slices = slices

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean loss."""
        rows = rows_of((args, kwargs))
        total: Any = None
        for i in range(self.slices):
            share = slice(i * rows // self.slices, (i + 1) * rows // self.slices)
            own, named = with_rows((args, kwargs), rows, lambda tensor, share=share: tensor[share])
            part = checkpoint(self._loss, *own, use_reentrant=False, **named)
            total = part if total is None else total + part
        return total / self.slices

    def _loss(self, *args: Any, **kwargs: Any) -> Tensor:
        output = self.model(*args, **kwargs)
        return output if isinstance(output, Tensor) else output.loss


def rows_of(inputs: Any) -> int:
    """Return the number of rows of a batch: the largest first dimension."""
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor) and leaf.ndim]
    return max([1, *sizes])


def with_rows(inputs: Any, rows: int, change: Any) -> Any:
    """Return inputs with `change` applied to the tensors that have so many rows."""
    return pytree.tree_map(
        lambda leaf: change(leaf) if isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == rows else leaf,
        inputs,
    )
