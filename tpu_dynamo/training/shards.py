"""Functions of whole tensors, traced on what one process has of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule
from torch.nn import Module
from torch.optim import Optimizer

from .._torch_compat import export_joint, implicitly_replicated, sharded, sharding_of
from .optimizers import UnsupportedOptimizer

functional = torch.ops._c10d_functional


def check_even(tensors: Sequence[Any]) -> None:
    """Raise NotImplementedError for a DTensor of which ranks have parts of several sizes."""
    for tensor in tensors:
        sharding = sharding_of(tensor)
        if sharding is None:
            continue
        for dimension, placement in enumerate(sharding.placements):
            ranks = sharding.mesh.size(dimension)
            if placement.is_shard() and tensor.shape[placement.dim] % ranks:
                raise NotImplementedError(
                    f"a tensor of shape {tuple(tensor.shape)}, of whose dimension {placement.dim} {ranks} ranks "
                    "have shares of several sizes, cannot be part of a training step: that is one program for all\n"
                    "  try: sizes that are multiples of the ranks that share them, or "
                    'torch.compile(model, backend="tpu"), and call the optimizer in eager'
                )


def norm_of_shards(tensors: Sequence[torch.Tensor], shardings: Sequence[Any]) -> torch.Tensor:
    """Return the 2-norm of all tensors together, of which this process has `tensors`.

    shardings: for each its mesh and placements, None for a tensor that is whole. The squares of shards are summed over
    the dimensions of the mesh that they are sharded over, by one collective for each dimension and kind of sharding.
    """
    norms: dict[Any, list[torch.Tensor]] = {}
    for tensor, sharding in zip(tensors, shardings, strict=True):
        norms.setdefault(_sharded_over(sharding), []).append(torch.linalg.vector_norm(tensor))
    totals = []
    for groups, found in norms.items():
        total = torch.linalg.vector_norm(torch.stack([norm.to(found[0].dtype) for norm in found]))
        if groups:
            square = total.float().square()
            for group in groups:
                square = functional.wait_tensor(functional.all_reduce(square, "sum", group))
            total = square.sqrt().to(total.dtype)
        totals.append(total)
    return totals[0] if len(totals) == 1 else torch.linalg.vector_norm(torch.stack(totals))


def _sharded_over(sharding: Any) -> tuple[str, ...]:
    """Return the names of the process groups along whose ranks a tensor's parts lie."""
    if sharding is None:
        return ()
    replicated = (placement.is_replicate() for placement in sharding.placements)
    return tuple(sharding.mesh.get_group(i).group_name for i, whole in enumerate(replicated) if not whole)


class _OfWholeTensors(Module):
    """A function of whole tensors as AOTAutograd takes it. shardings: of its results, once it was called."""

    def __init__(self, function: Callable[..., list[torch.Tensor]]):
        super().__init__()
        self._function = function
        self.shardings: list[Any] = []

    def forward(self, *operands: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad(), implicitly_replicated():
            results = self._function(*(operand.clone() for operand in operands))  # which it writes to
        self.shardings = list(map(sharding_of, results))
        return results


def trace_on_whole_tensors(
    function: Callable[..., list[torch.Tensor]],
    fakes: Sequence[torch.Tensor],
    shardings: Sequence[Any],
    optimizer: Optimizer,
) -> tuple[GraphModule, list[int], list[Any]]:
    """Trace a function of whole tensors on what this process has of them, its collectives as DTensor makes them.

    fakes: fake tensors of what this process has. shardings: of what, None where that is all. Returns the graph, the
    positions of the function's results among its outputs, and their shardings. Raises UnsupportedOptimizer for what
    DTensors do not have.
    """
    module = _OfWholeTensors(function)
    operands = [fake if s is None else sharded(fake, s) for fake, s in zip(fakes, shardings, strict=True)]
    try:
        graph_module, places = export_joint(module, operands)
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedOptimizer(
            optimizer,
            f"its update of an element depends on others, and not all of it can be made on DTensors: {error}",
            "an optimizer that treats each element by itself, as AdamW, or call this one in eager",
        ) from error
    return graph_module, places.outputs, module.shardings
