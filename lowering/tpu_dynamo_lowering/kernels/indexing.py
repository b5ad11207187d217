"""Reading and writing by index: embedding, index, index_put, gather, take, put and masked scatters.

Negative indices count from the end where PyTorch allows them. An index out of range is an error in eager PyTorch; a
program cannot raise, so there a read gives the nearest value and a write does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import kernel
from .casts import cast_to

aten = torch.ops.aten

_HALVES = (jnp.bfloat16, jnp.float16)


def accumulator(dtype: Any) -> np.dtype[Any]:
    """Return the dtype in which sums of `dtype` are accumulated: float32 for half precision, else itself."""
    return np.dtype(np.float32) if dtype in _HALVES else np.dtype(dtype)


def narrowed(index: Array, extent: int) -> Array:
    """Cast indices to int32 if the dimension's extent allows it: accelerators have no 64-bit addressing units."""
    return index.astype(jnp.int32) if extent <= np.iinfo(np.int32).max else index


@kernel(aten.embedding.default)
def embedding(
    weight: Array, indices: Array, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Array:
    """Gather rows of a table.

    weight: [rows, features]; result: [*indices.shape, features].
    """
    return jnp.take(weight, indices, axis=0, mode="clip")


@kernel(aten.embedding_dense_backward.default)
def embedding_dense_backward(
    grad_output: Array, indices: Array, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Array:
    """Compute the gradient of an embedding table: one scatter of sums, in float32 for half precision.

    The row `padding_idx` gets none; with `scale_grad_by_freq` each row's sum is divided by how often it was read.
    torch's decomposition clamps and masks the indices first; XLA drops those out of range by itself.
    """
    rows = narrowed(indices, num_weights).reshape(-1)
    grad = grad_output.reshape(rows.shape[0], *grad_output.shape[indices.ndim :]).astype(accumulator(grad_output.dtype))
    if scale_grad_by_freq:
        counts = jnp.zeros(num_weights, grad.dtype).at[rows].add(1, mode="drop")
        grad = grad / counts[rows].reshape(-1, *(1,) * (grad.ndim - 1))
    if padding_idx >= 0:
        rows = jnp.where(rows == padding_idx, num_weights, rows)
    return jnp.zeros((num_weights, *grad.shape[1:]), grad.dtype).at[rows].add(grad, mode="drop")


def _jax_index(self: Array, indices: Sequence[Array | None]) -> tuple[Any, ...]:
    """Return the indices in JAX's form, in which a slice, not None, stands for a whole dimension."""
    return tuple(
        slice(None) if index is None else narrowed(index, extent)
        for index, extent in zip(indices, self.shape, strict=False)
    )


@kernel(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(self: Array, indices: Sequence[Array | None]) -> Array:
    """Gather the values at broadcast index tensors, None standing for a whole dimension.

    Raises NotImplementedError for a boolean mask: how many values it selects depends on the data. Source: ATen `index`.
    """
    if any(each is not None and _is_mask(each) for each in indices):
        raise NotImplementedError("a boolean index gives a result whose size depends on the data")
    return self.at[_jax_index(self, indices)].get(mode="clip")


def _masked_put(self: Array, mask: Array, lead: int, values: Array, accumulate: bool) -> Array:
    """Write `values` to `self` where a mask of the dimensions from `lead` on is true, the n-th at the n-th true place.

    values: one for all true places, or one for each, along the dimension after the `lead` first ones.
    """
    trail = self.ndim - lead - mask.ndim
    if values.ndim > trail and values.shape[values.ndim - trail - 1] != 1:
        taken = jnp.cumsum(mask.reshape(-1)) - 1
        axis = values.ndim - trail - 1
        values = jnp.take(values, taken, axis=axis, mode="clip")
        values = values.reshape(*values.shape[:axis], *mask.shape, *values.shape[axis + 1 :])
    elif values.ndim > trail:
        axis = values.ndim - trail - 1
        values = values.reshape(*values.shape[:axis], *(1,) * mask.ndim, *values.shape[axis + 1 :])
    mask = mask.reshape(mask.shape + (1,) * trail)
    written = self | values if accumulate and self.dtype == jnp.bool_ else self + values if accumulate else values
    return jnp.where(mask, cast_to(written, self.dtype), self)


def _mask_to_integers(self: Array, indices: Sequence[Array | None], values: Array) -> tuple[list[Array | None], Array]:
    """Replace the one mask among indices by integers, out of range where nothing is written; also return the values.

    How many places a mask selects is not known. Beside indices of several places it must be as many, or one. Otherwise
    every place of the mask gets an integer, and the n-th value moves to the n-th true one.
    """
    lead = next(i for i, each in enumerate(indices) if each is not None and _is_mask(each))
    mask = indices[lead]
    assert mask is not None
    mask = mask != 0
    others = [each for i, each in enumerate(indices) if i != lead and each is not None]
    several = max((each.shape[-1] for each in others if each.ndim), default=1)
    if several != 1:
        found = jnp.nonzero(mask, size=several, fill_value=max(self.shape))
        one = jnp.sum(mask) == 1
        places = [jnp.where(one, each[0], each) if several else each for each in found]
        return [*indices[:lead], *places, *indices[lead + 1 :]], values
    grid = np.indices(mask.shape, np.int32).reshape(mask.ndim, -1)
    places = [jnp.where(mask.reshape(-1), each, max(self.shape)) for each in grid]
    integers: list[Array | None] = [*indices[:lead], *places, *indices[lead + 1 :]]
    given = [i for i in range(self.ndim) if i < len(integers) and integers[i] is not None]
    together = given[-1] - given[0] == len(given) - 1
    # The dimension of the places stands before those that come after the indices, or, where a whole dimension stands
    # between two of them, before all whole dimensions.
    axis = values.ndim - 1 - (self.ndim - 1 - given[-1] if together else self.ndim - len(given))
    if axis >= 0 and values.shape[axis] != 1:
        values = jnp.take(values, jnp.cumsum(mask.reshape(-1)) - 1, axis=axis, mode="clip")
    return integers, values


def _is_mask(index: Array) -> bool:
    return index.dtype in (jnp.bool_, jnp.uint8)


@kernel(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(self: Array, indices: Sequence[Array | None], values: Array, accumulate: bool = False) -> Array:
    """Write values to, or add them at, broadcast index tensors: one scatter.

    One boolean mask, with None for every other dimension, is a select. Half precision is added in float32. Which of
    several values written to one place stays is unspecified. Raises NotImplementedError for two boolean masks.
    Source: ATen `index_put`.
    """
    masks = [each for each in indices if each is not None and _is_mask(each)]
    values = cast_to(values, self.dtype)
    if len(masks) > 1:
        raise NotImplementedError("the number of places that two boolean indices name together depends on the data")
    if masks and sum(each is not None for each in indices) == 1:
        lead = next(i for i, each in enumerate(indices) if each is not None)
        return _masked_put(self, masks[0] != 0, lead, values, accumulate)
    if masks:
        indices, values = _mask_to_integers(self, indices, values)
    place = _jax_index(self, indices)
    if not accumulate:
        return self.at[place].set(values, mode="drop")
    if self.dtype == jnp.bool_:
        return self.astype(jnp.int8).at[place].max(values.astype(jnp.int8), mode="drop")
    total = accumulator(self.dtype)
    return self.astype(total).at[place].add(values.astype(total), mode="drop")


@kernel(aten._index_put_impl.default)
def index_put_impl(
    self: Array, indices: Sequence[Array | None], values: Array, accumulate: bool = False, unsafe: bool = False
) -> Array:
    """Write values to, or add them at, broadcast index tensors: one scatter, as index_put."""
    return index_put(self, indices, values, accumulate)


@kernel(aten.index_select.default)
def index_select(self: Array, dim: int, index: Array) -> Array:
    """Gather the slices that a vector of indices names along `dim`; a 0-d tensor is returned unchanged."""
    if self.ndim == 0:
        return self
    return jnp.take(self, narrowed(index, self.shape[dim]).reshape(-1), axis=dim, mode="clip")


@kernel(aten.gather.default)
def gather(self: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    """Gather, for each place of `index`, the value of `self` there, but at that index along `dim`.

    index: as many dimensions as `self`, none but `dim` larger. Source: ATen `gather`.
    """
    if index.size == 0:
        return jnp.zeros(index.shape, self.dtype)
    if index.ndim == 0 or self.ndim == 0:  # a scalar is a vector of one value
        return take(self, index)
    dim %= self.ndim
    within = tuple(slice(None) if d == dim else slice(0, extent) for d, extent in enumerate(index.shape))
    return jnp.take_along_axis(self[within], narrowed(index, self.shape[dim]), axis=dim, mode="clip")


@kernel(aten.take.default)
def take(self: Array, index: Array) -> Array:
    """Gather values at row-major positions of the tensor."""
    return self.reshape(-1).at[narrowed(index, self.size)].get(mode="clip")


@kernel(aten.put.default)
def put(self: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    """Write values to, or add them at, row-major positions of the tensor: one scatter."""
    return index_put(self.reshape(-1), [index.reshape(-1)], source.reshape(-1), accumulate).reshape(self.shape)


@kernel(aten.masked_scatter.default)
def masked_scatter(self: Array, mask: Array, source: Array) -> Array:
    """Write the n-th value of `source` to the n-th true place of a broadcast mask.

    How many places are true is not known, so each place gathers the value that its running count points at.
    Source: ATen `masked_scatter`.
    """
    self, mask = jnp.broadcast_arrays(self, mask)
    if self.size == 0 or source.size == 0:
        return self
    position = jnp.cumsum(mask.reshape(-1), dtype=jnp.int32).reshape(mask.shape) - 1
    return jnp.where(mask, source.reshape(-1).at[position].get(mode="clip"), self)


@kernel(aten.masked_scatter_backward.default)
def masked_scatter_backward(grad_output: Array, mask: Array, sizes: Sequence[int]) -> Array:
    """Compute the gradient of masked_scatter's source: the values at the mask's true places in order, then zeros."""
    mask = jnp.broadcast_to(mask, grad_output.shape).reshape(-1)
    count = int(np.prod(sizes))
    position = jnp.where(mask, jnp.cumsum(mask, dtype=jnp.int32) - 1, count)
    return jnp.zeros(count, grad_output.dtype).at[position].set(grad_output.reshape(-1), mode="drop").reshape(sizes)


@kernel(aten.nonzero_static.default)
def nonzero_static(self: Array, *, size: int, fill_value: int = -1) -> Array:
    """Return the indices of the first `size` nonzero values, [size, dimensions], padded with rows of `fill_value`."""
    if self.ndim == 0:
        return jnp.zeros((size, 0), jnp.int64)
    if self.size == 0:
        return jnp.full((size, self.ndim), fill_value, jnp.int64)
    found = jnp.nonzero(self, size=size, fill_value=fill_value)
    return lax.concatenate([each.astype(jnp.int64)[:, None] for each in found], 1)
