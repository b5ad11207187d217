"""Bags of embeddings and their gradients, and tables whose rows are kept short."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .indexing import accumulator

aten = torch.ops.aten

_SUM, _MEAN, _MAX = range(3)


@kernel(aten.embedding_renorm.default)
def embedding_renorm(self: Array, indices: Array, max_norm: float, norm_type: float) -> Array:
    """A table whose rows that are read have at most a given norm: a gather and a scatter."""
    rows = indices.reshape(-1)
    values = self[rows].astype(accumulator(self.dtype))
    norms = jnp.linalg.norm(values, ord=norm_type, axis=1, keepdims=True)
    # 1e-7 is PyTorch's, in aten/src/ATen/native/Embedding.cpp.
    scaled = jnp.where(norms > max_norm, values * (max_norm / (norms + 1e-7)), values)
    return self.at[rows].set(scaled.astype(self.dtype))


def _bag_of(offsets: Array, count: int) -> Array:
    """For each of `count` indices, the bag that it is in: how many bags begin no later, less one."""
    return jnp.searchsorted(offsets, jnp.arange(count, dtype=offsets.dtype), side="right", method="sort") - 1


def _bags(
    weight: Array,
    indices: Array,
    offsets: Array,
    mode: int,
    per_sample_weights: Array | None,
    include_last_offset: bool,
    padding_idx: int,
) -> tuple[Array, Array, Array, Array]:
    """Each bag's sum, mean or maximum; each index's bag; how many rows each bag counts; where the maxima are from."""
    bags = offsets.shape[0] - include_last_offset
    bag = _bag_of(offsets[:bags], indices.shape[0])
    counted = indices != padding_idx
    size = jnp.zeros(bags, offsets.dtype).at[bag].add(counted.astype(offsets.dtype))
    rows = jnp.take(weight, indices, axis=0, mode="clip").astype(accumulator(weight.dtype))
    shape = (bags, weight.shape[1])
    if mode == _MAX:
        values = jnp.where(counted[:, None], rows, -jnp.inf)
        largest = jnp.full(shape, -jnp.inf, rows.dtype).at[bag].max(values)
        # The first of equal rows is the one that the gradient goes to.
        position = jnp.arange(indices.shape[0], dtype=jnp.int32)[:, None]
        here = counted[:, None] & ((rows == largest[bag]) | (jnp.isnan(rows)))
        none = indices.shape[0]
        first = jnp.full(shape, none, jnp.int32).at[bag].min(jnp.where(here, position, none))
        origin = jnp.where(first == none, -1, jnp.take(indices, first, mode="clip")) if none else first - 1
        return jnp.where(first == none, 0, largest), bag, size, origin
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.astype(rows.dtype)[:, None]
    total = jnp.zeros(shape, rows.dtype).at[bag].add(jnp.where(counted[:, None], rows, 0))
    if mode == _MEAN:
        total = total / jnp.maximum(size, 1).astype(total.dtype)[:, None]
    return total, bag, size, jnp.zeros(bags, indices.dtype)


@kernel(aten._embedding_bag.default)
def embedding_bag(
    weight: Array,
    indices: Array,
    offsets: Array,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Array, Array, Array, Array]:
    """The sum, mean or maximum of each bag of a table's rows, and what the gradient needs: a gather and a scatter.

    indices: a vector, cut into bags at `offsets`; rows `padding_idx` do not count; an empty bag gives zero. With
    `include_last_offset` the last offset ends the last bag. The other results are: each index's bag (on the CPU empty
    for a plain sum), the bags' sizes, and for the maximum the row that each value is from. Source: ATen
    `_embedding_bag`.
    """
    result, bag, size, origin = _bags(
        weight, indices, offsets, mode, per_sample_weights, include_last_offset, padding_idx
    )
    return result, bag, size, origin


@kernel(aten._embedding_bag_forward_only.default)
def embedding_bag_forward_only(
    weight: Array,
    indices: Array,
    offsets: Array,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Array, Array, Array, Array]:
    """What _embedding_bag gives, with as many sizes as offsets."""
    result, bag, size, origin = embedding_bag(
        weight, indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights, include_last_offset, padding_idx
    )
    size = jnp.concatenate([size, jnp.zeros(offsets.shape[0] - size.shape[0], size.dtype)])
    return result, bag, size, origin


def _dense_gradient(
    grad: Array,
    indices: Array,
    bag: Array,
    bag_size: Array,
    maximum_indices: Array,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Array | None,
    padding_idx: int,
) -> Array:
    grad = grad.astype(accumulator(grad.dtype))
    zeros = jnp.zeros((num_weights, grad.shape[1]), grad.dtype)
    if mode == _MAX:
        rows = jnp.where(maximum_indices < 0, num_weights, maximum_indices)
        return zeros.at[rows, jnp.arange(grad.shape[1])[None, :]].add(grad, mode="drop")
    if mode == _MEAN:
        grad = grad / jnp.maximum(bag_size[: grad.shape[0]], 1).astype(grad.dtype)[:, None]
    each = jnp.take(grad, bag, axis=0, mode="clip")
    if per_sample_weights is not None:
        each = each * per_sample_weights.astype(grad.dtype)[:, None]
    if scale_grad_by_freq:
        counts = jnp.zeros(num_weights, grad.dtype).at[indices].add(1, mode="drop")
        each = each / counts[indices][:, None]
    rows = jnp.where(indices == padding_idx, num_weights, indices) if padding_idx >= 0 else indices
    return zeros.at[rows].add(each, mode="drop")


@kernel(aten._embedding_bag_dense_backward.default)
def embedding_bag_dense_backward(
    grad: Array,
    indices: Array,
    offset2bag: Array,
    bag_size: Array,
    maximum_indices: Array,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Array | None,
    padding_idx: int = -1,
) -> Array:
    """The gradient of a table of which bags were made: one scatter of sums, kept in float32 for half precision."""
    return _dense_gradient(
        grad,
        indices,
        offset2bag,
        bag_size,
        maximum_indices,
        num_weights,
        scale_grad_by_freq,
        mode,
        per_sample_weights,
        padding_idx,
    )


@kernel(aten._embedding_bag_backward.default)
def embedding_bag_backward(
    grad: Array,
    indices: Array,
    offsets: Array,
    offset2bag: Array,
    bag_size: Array,
    maximum_indices: Array,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Array | None,
    padding_idx: int = -1,
) -> Array:
    """The gradient of a table of which bags were made, the bags found from their offsets."""
    bag = _clipped_bag_of(offsets, indices, grad)
    return _dense_gradient(
        grad, indices, bag, bag_size, maximum_indices, num_weights, scale_grad_by_freq, mode, per_sample_weights,
        padding_idx,
    )  # fmt: skip


def _clipped_bag_of(offsets: Array, indices: Array, grad: Array) -> Array:
    # The offset that ends the last bag, where there is one, begins none.
    return _bag_of(lax.slice_in_dim(offsets, 0, grad.shape[0]), indices.shape[0])


@kernel(aten._embedding_bag_per_sample_weights_backward.default)
def embedding_bag_per_sample_weights_backward(
    grad: Array, weight: Array, indices: Array, offsets: Array, offset2bag: Array, mode: int, padding_idx: int = -1
) -> Array:
    """The gradient of the weights of a bag's rows: each row's product with its bag's gradient."""
    dtype = accumulator(grad.dtype)
    each = jnp.take(grad, _clipped_bag_of(offsets, indices, grad), axis=0, mode="clip").astype(dtype)
    rows = jnp.take(weight, indices, axis=0, mode="clip").astype(dtype)
    return (
        jnp.where(indices == padding_idx, 0, jnp.sum(each * rows, 1)) if padding_idx >= 0 else jnp.sum(each * rows, 1)
    )
