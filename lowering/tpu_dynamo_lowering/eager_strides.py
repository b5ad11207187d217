"""Strides as eager PyTorch gives them, of operators whose fake tensors have others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensorMode, OpOverload, pytree, suggest_memory_format

aten = torch.ops.aten

# From an operator's arguments to a tensor with the strides of its first result.
Rule = Callable[..., Tensor]


def restore_strides(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Give each node's fake tensor the strides that eager's result has, in place.

    PyTorch's rules for fake tensors lose the memory order in some operators (`RULES`), so that results which
    AOTAutograd promises to be channels-last come out row-major. What follows such an operator is inferred anew.
    """
    restored: set[Node] = set()
    for node in graph_module.graph.nodes:
        rule = RULES.get(node.target) if isinstance(node.target, OpOverload) else None
        if node.op != "call_function" or not (rule or restored.intersection(node.all_input_nodes)):
            continue
        args, kwargs = pytree.tree_map_only(Node, lambda each: each.meta["val"], (node.args, node.kwargs))
        try:
            with mode:
                value = node.target(*args, **kwargs) if rule is None else _first(node, rule(*args, **kwargs))
        except (RuntimeError, ValueError):
            continue  # a view that only the strides before allow: eager makes a copy there, which is row-major
        if _strides(value) != _strides(node.meta["val"]):
            node.meta["val"] = value
            restored.add(node)


def _first(node: Node, like: Tensor) -> Any:
    """Return the node's value, its first tensor with the strides of `like`."""
    leaves, structure = pytree.tree_flatten(node.meta["val"])
    assert like.shape == leaves[0].shape, f"{node.target}: {like.shape}, not {leaves[0].shape}"
    leaves[0] = leaves[0].new_empty_strided(like.shape, like.stride())
    return pytree.tree_unflatten(leaves, structure)


def _strides(value: Any) -> list[tuple[int, ...]]:
    return [leaf.stride() for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _elementwise(self: Any, other: Any, *others: Any, **options: Any) -> Tensor:
    """Return a tensor with the strides that TensorIterator gives for two operands; the rule for `add` is right."""
    return torch.add(_floats(self), _floats(other))


def _floats(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return 1.0
    return torch.empty_strided(value.shape, value.stride(), device=value.device)


def _ldexp(self: Tensor, other: Tensor) -> Tensor:
    """Return a tensor with the strides of a product with a power of two, which is row-major."""
    return torch.add(_floats(self), torch.empty(other.shape, device=other.device))


def _suggested(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return an empty tensor that is channels-last if `like` is, else row-major."""
    return torch.empty(tuple(shape), device=like.device, memory_format=suggest_memory_format(like))


def _as_input(self: Tensor, *others: Any, **options: Any) -> Tensor:
    return _suggested(self.shape, self)


def _row_major(self: Tensor, *others: Any, **options: Any) -> Tensor:
    return torch.empty(self.shape, device=self.device)


def _as_padded(grad_output: Tensor, self: Tensor, padding: Sequence[int]) -> Tensor:
    return _suggested(self.shape, self)


def _row_major_exponent(self: float, exponent: Tensor) -> Tensor:
    return _row_major(exponent)


def _pad3d(self: Tensor, padding: Sequence[int]) -> Tensor:
    grown = [before + after for before, after in zip(padding[4::-2], padding[5::-2], strict=True)]
    shape = [*self.shape[:-3], *(size + more for size, more in zip(self.shape[-3:], grown, strict=True))]
    return _suggested(shape, self)


def _max_unpool2d(self: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    return _suggested([*self.shape[:-2], *output_size], self)


def _roll(self: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    """Return a tensor with eager's strides: eager concatenates two slices, one dimension after the other.

    Without dimensions it rolls the flattened tensor, and the result is row-major.
    """
    rolled = _floats(self)
    if self.numel() and not dims:
        return torch.empty(self.shape, device=self.device)
    for shift, dim in zip(shifts, dims, strict=True):
        if self.numel():
            size = self.shape[dim]
            start = -shift % size
            rolled = torch.cat([rolled.narrow(dim, start, size - start), rolled.narrow(dim, 0, start)], dim)
    return rolled


# Found by comparing the results of every operator of OpInfo on permuted inputs: tests/opinfo/strides.py.
RULES: dict[OpOverload, Rule] = {
    **dict.fromkeys(
        [
            aten.copysign.Tensor,
            aten.div.Tensor_mode,
            aten.floor_divide.default,
            aten.heaviside.default,
            aten.logaddexp.default,
            aten.logical_and.default,
            aten.logical_or.default,
            aten.logical_xor.default,
            aten.native_dropout_backward.default,
            aten.special_xlog1py.default,
            aten.xlogy.Tensor,
        ],
        _elementwise,
    ),
    **dict.fromkeys(
        [
            aten._batch_norm_no_update.default,
            aten._batch_norm_with_update.default,
            aten._batch_norm_with_update_functional.default,
            aten._native_batch_norm_legit.default,
            aten._native_batch_norm_legit.no_stats,
            aten._native_batch_norm_legit_functional.default,
            aten._native_batch_norm_legit_no_training.default,
            aten.channel_shuffle.default,
            aten.native_batch_norm.default,
            aten.native_channel_shuffle.default,
            aten.native_group_norm.default,
        ],
        _as_input,
    ),
    aten._log_softmax_backward_data.default: _row_major,
    aten.ldexp.Tensor: _ldexp,
    aten.log_sigmoid_forward.default: _row_major,
    aten.max_unpool2d.default: _max_unpool2d,
    aten.normal.Tensor_Tensor: _row_major,
    aten.pow.Scalar: _row_major_exponent,
    aten.reflection_pad2d_backward.default: _as_padded,
    aten.reflection_pad3d.default: _pad3d,
    aten.replication_pad2d_backward.default: _as_padded,
    aten.replication_pad3d.default: _pad3d,
    aten.roll.default: _roll,
}
