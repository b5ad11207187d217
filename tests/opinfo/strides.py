"""Strides of OpInfo's operators on permuted inputs: those that a graph's results get, against eager's.

`python -m tests.opinfo.strides` prints where they differ, for every entry; nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.opinfo.core import OpInfo
from torch.utils import _pytree as pytree

from tpu_dynamo_lowering import trace
from tpu_dynamo_lowering._torch_compat import fake_mode
from tpu_dynamo_lowering.eager_strides import restore_strides
from tpu_dynamo_lowering.sizes import bind_sizes

from .entries import UNSPECIFIED, callable_of, entries, samples
from .expected_failures import FORWARD

# Entries that the graph or eager refuses for permuted inputs, and max_pool1d, which eager computes by another operator
# where no gradient is wanted.
LEFT_OUT = (
    UNSPECIFIED
    | FORWARD["any"].keys()
    | {"view_as_complex", "native_group_norm", "nn.functional.max_pool1d", "narrow", "view", "view_as"}
)

Strides = list[tuple[int, ...] | None]


def permutations(rank: int) -> dict[str, tuple[int, ...]]:
    """The memory orders in which inputs of a rank are tried."""
    if rank < 2:
        return {}
    found = {"transposed": (*range(rank - 2), rank - 1, rank - 2)}
    if rank > 2:
        found |= {"channels-last": (0, *range(2, rank), 1), "reversed": tuple(reversed(range(rank)))}
    return found


def permuted(values: Any, name: str) -> Any:
    """Tensors with their memory in another order, where they have dimensions enough."""

    def one(tensor: torch.Tensor) -> torch.Tensor:
        order = permutations(tensor.ndim).get(name)
        if order is None or tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
            return tensor.detach().clone()
        return tensor.detach().permute(order).contiguous().permute([order.index(d) for d in range(tensor.ndim)])

    return pytree.tree_map_only(torch.Tensor, one, values)


def strides_of(results: Any) -> Strides:
    """The strides that mean something: of tensors with elements, in dimensions of more than one."""
    return [
        tuple(step for step, size in zip(leaf.stride(), leaf.shape, strict=True) if size != 1) if leaf.numel() else None
        for leaf in pytree.tree_leaves(results)
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided
    ]


def strides_of_graph(function: Any, values: Any) -> Strides:
    """The strides of the results that a graph of the function has when it is lowered."""
    leaves, structure = pytree.tree_flatten(values)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def call(*tensors: torch.Tensor) -> Any:
        given = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        first, args, kwargs = pytree.tree_unflatten(given, structure)
        return pytree.tree_leaves(function(first, *args, **kwargs))

    traced = trace(call, [(leaves[i].shape, leaves[i].stride(), leaves[i].dtype) for i in places])
    mode = fake_mode()
    graph = bind_sizes(traced, {}, mode)
    restore_strides(graph, mode)
    results = graph.graph.output_node().args[0]
    return strides_of([node.meta["val"] if isinstance(node, torch.fx.Node) else node for node in results])


def differences(info: OpInfo, dtype: torch.dtype, count: int | None = None) -> Iterator[str]:
    """Yield where an entry's first samples, with their inputs permuted, have other strides in a graph than in eager."""
    function = callable_of(info)
    for sample in samples(info, dtype, count):
        values = sample.input, sample.args, sample.kwargs
        tensor = next((leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)), None)
        for name in permutations(tensor.ndim if tensor is not None else 0):
            given = permuted(values, name)
            with torch.no_grad():
                torch.manual_seed(0)
                expected = strides_of(function(given[0], *given[1], **given[2]))
                actual = strides_of_graph(function, permuted(values, name))
            if actual != expected:
                yield f"{info.name} of {name} {tuple(tensor.shape)}: {actual}, eager {expected}"


def main() -> None:
    """Print the differences of each entry's first samples, and what cannot be traced."""
    for name, info in entries(torch.float32).items():
        try:
            for line in differences(info, torch.float32, 12) if name not in LEFT_OUT else ():
                print(line, flush=True)
        except RuntimeError as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:100]!r}", flush=True)


if __name__ == "__main__":
    main()
