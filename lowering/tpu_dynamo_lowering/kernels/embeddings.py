"""Bags of embeddings and their gradients, and tables whose rows are limited in norm."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .indexing import accumulator

aten = torch.ops.aten

_SUM, _MEAN, _MAX = range(3)


@kernel(aten.embedding_renorm.default)
def embedding_renorm(self: Array, indices: Array, max_norm: float, norm_type: float) -> Array:
    """Scale down those rows of a table that `indices` name and whose norm exceeds `max_norm`: a gather and a scatter.

    self: [rows, features]; indices: integers of any shape. Source: ATen `embedding_renorm`.
    """
    rows = indices.reshape(-1)
    values = self[rows].astype(accumulator(self.dtype))
    norms = jnp.linalg.norm(values, ord=norm_type, axis=1, keepdims=True)
    # 1e-7 is PyTorch's, in aten/src/ATen/native/Embedding.cpp.
    scaled = jnp.where(norms > max_norm, values * (max_norm / (norms + 1e-7)), values)
    return self.at[rows].set(scaled.astype(self.dtype))


def _bag_of(offsets: Array, count: int) -> Array:
    """Return the bag that each of `count` indices is in: the last one that begins no later."""
    return jnp.searchsorted(offsets, jnp.arange(count, dtype=offsets.dtype), side="right", method="sort") - 1


def _last_offset_ends_bag(dtype: Any, mode: int, padding_idx: int) -> bool:
    """Return True if the last offset ends the last bag, even before the indices end.

    ATen's sums of float32 and half precision without a padding index read the offsets alone; its other algorithms read
    the last bag to the end of the indices.
    Source: `is_fast_path_index_select` in aten/src/ATen/native/EmbeddingBag.cpp.
    """
    return mode != _MAX and dtype != jnp.float64 and padding_idx < 0


def _positions_before(end: Array, count: int) -> Array:
    return jnp.arange(count, dtype=end.dtype) < end


def _largest_of_bags(rows: Array, counted: Array, bag: Array, bags: int) -> tuple[Array, Array]:
    """Return the largest counted row of each bag, by column, and its position; zero and 0 for an empty bag.

    rows: [count, columns]; both results: [bags, columns]. The first of equal values wins; nan wins only if it comes
    first, since ATen takes a value that is larger than all before it.
    """
    count, shape = rows.shape[0], (bags, rows.shape[1])
    if not count:
        return jnp.zeros(shape, rows.dtype), jnp.zeros(shape, jnp.int32)
    numbers = jnp.where(counted[:, None] & ~jnp.isnan(rows), rows, -jnp.inf)
    largest = jnp.full(shape, -jnp.inf, rows.dtype).at[bag].max(numbers)
    position = jnp.arange(count, dtype=jnp.int32)
    start = jnp.full(bags, count, jnp.int32).at[bag].min(jnp.where(counted, position, count))
    here = counted[:, None] & (rows == largest[bag])
    place = jnp.full(shape, count, jnp.int32).at[bag].min(jnp.where(here, position[:, None], count))
    place = jnp.where(jnp.isnan(jnp.take(rows, start, axis=0, mode="clip")), start[:, None], place)
    empty = (start == count)[:, None]
    place = jnp.where(empty, 0, place)
    return jnp.where(empty, 0, jnp.take_along_axis(rows, place, axis=0, mode="clip")), place


def _bags(
    weight: Array,
    indices: Array,
    offsets: Array,
    mode: int,
    per_sample_weights: Array | None,
    include_last_offset: bool,
    padding_idx: int,
) -> tuple[Array, Array, Array, Array]:
    """Return the bags' sums, means or maxima, the indices' bags, the bags' counts of rows and the maxima's rows."""
    bags, count = offsets.shape[0] - include_last_offset, indices.shape[0]
    bag = _bag_of(offsets[:bags], count)
    counted = indices != padding_idx
    size = jnp.zeros(bags, offsets.dtype).at[bag].add(counted.astype(offsets.dtype))
    rows = jnp.take(weight, indices, axis=0, mode="clip").astype(accumulator(weight.dtype))
    if mode == _MAX:
        largest, place = _largest_of_bags(rows, counted, bag, bags)
        origin = jnp.take(indices, place, mode="clip") if count else place
        return largest, bag, size, jnp.where(size[:, None] == 0, 0, origin)
    if include_last_offset and _last_offset_ends_bag(weight.dtype, mode, padding_idx):
        counted &= _positions_before(offsets[-1], count)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.astype(rows.dtype)[:, None]
    total = jnp.zeros((bags, weight.shape[1]), rows.dtype).at[bag].add(jnp.where(counted[:, None], rows, 0))
    if mode == _SUM:
        return total, bag, jnp.zeros_like(size), jnp.zeros_like(size)
    return total / jnp.maximum(size, 1).astype(total.dtype)[:, None], bag, size, size


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
    """Sum, average or maximise each bag of a table's rows and return what the gradient needs: a gather and a scatter.

    indices: a vector, cut into bags at `offsets`. mode: 0 sum, 1 mean, 2 maximum. Rows `padding_idx` do not count; an
    empty bag gives zero. With `include_last_offset` the last offset begins no bag; `_last_offset_ends_bag` says when it
    ends the last one. The other results are: each index's bag (on the CPU empty for a plain sum); the bags' sizes (zero
    for sums; as many as there are offsets, except on the CPU); and for the maximum the row that each value is from, in
    other modes a copy of the sizes.
    Source: ATen `_embedding_bag`.
    """
    result, bag, size, origin = _bags(
        weight, indices, offsets, mode, per_sample_weights, include_last_offset, padding_idx
    )
    return result, bag, jnp.pad(size, (0, offsets.shape[0] - size.shape[0])), origin


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
    """Sum, average or maximise each bag of a table's rows, with the results of _embedding_bag."""
    return embedding_bag(
        weight, indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights, include_last_offset, padding_idx
    )


def _dense_gradient(
    grad: Array,
    indices: Array,
    bag: Array,
    inside: Array | None,
    bag_size: Array,
    maximum_indices: Array,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Array | None,
    padding_idx: int,
) -> Array:
    """Compute the gradient of the table of an embedding bag.

    inside: True for the indices that are in a bag, or None if all are.
    """
    grad = grad.astype(accumulator(grad.dtype))
    zeros = jnp.zeros((num_weights, grad.shape[1]), grad.dtype)
    bag_size = bag_size[: grad.shape[0], None]
    if mode == _MAX:
        rows = jnp.where(bag_size == 0, num_weights, maximum_indices)
        return zeros.at[rows, jnp.arange(grad.shape[1])[None, :]].add(grad, mode="drop")
    if mode == _MEAN:
        grad = grad / jnp.maximum(bag_size, 1).astype(grad.dtype)
    each = jnp.take(grad, bag, axis=0, mode="clip")
    if per_sample_weights is not None:
        each = each * per_sample_weights.astype(grad.dtype)[:, None]
    if scale_grad_by_freq:
        counts = jnp.zeros(num_weights, grad.dtype).at[indices].add(1, mode="drop")
        each = each / counts[indices][:, None]
    counted = indices != padding_idx if inside is None else (indices != padding_idx) & inside
    return zeros.at[jnp.where(counted, indices, num_weights)].add(each, mode="drop")


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
    """Compute the gradient of an embedding bag's table from the indices' bags: one scatter of sums.

    grad: [bags, features]; result: [num_weights, features]. Half precision is summed in float32.
    """
    return _dense_gradient(
        grad,
        indices,
        offset2bag,
        None,
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
    """Compute the gradient of an embedding bag's table, finding the indices' bags from the offsets.

    grad: [bags, features]; result: [num_weights, features]. Half precision is summed in float32.
    """
    bag, inside = _bags_of_gradient(grad, indices, offsets, mode, padding_idx)
    return _dense_gradient(
        grad, indices, bag, inside, bag_size, maximum_indices, num_weights, scale_grad_by_freq, mode,
        per_sample_weights, padding_idx,
    )  # fmt: skip


def _bags_of_gradient(
    grad: Array, indices: Array, offsets: Array, mode: int, padding_idx: int
) -> tuple[Array, Array | None]:
    """Return each index's bag, and which indices are in a bag (None for all).

    An offset that only ends the last bag begins none. Past it eager PyTorch reads beyond the gradient's memory for
    sums; for means it gives the rows there a gradient, though they have no part in the value.
    """
    bags, count = grad.shape[0], indices.shape[0]
    early = offsets.shape[0] > bags and mode == _SUM and _last_offset_ends_bag(grad.dtype, mode, padding_idx)
    return _bag_of(offsets[:bags], count), _positions_before(offsets[-1], count) if early else None


@kernel(aten._embedding_bag_per_sample_weights_backward.default)
def embedding_bag_per_sample_weights_backward(
    grad: Array, weight: Array, indices: Array, offsets: Array, offset2bag: Array, mode: int, padding_idx: int = -1
) -> Array:
    """Compute the gradient of an embedding bag's row weights: the dot product of each row and its bag's gradient."""
    dtype = accumulator(grad.dtype)
    bag, inside = _bags_of_gradient(grad, indices, offsets, mode, padding_idx)
    each = jnp.take(grad, bag, axis=0, mode="clip").astype(dtype)
    rows = jnp.take(weight, indices, axis=0, mode="clip").astype(dtype)
    counted = indices != padding_idx if inside is None else (indices != padding_idx) & inside
    return jnp.where(counted, jnp.sum(each * rows, 1), 0)
