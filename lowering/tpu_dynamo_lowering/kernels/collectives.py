"""Collectives of torch.distributed, functional: each rank's values become results that depend on the others'.

A kernel sees the ranks of its program as an axis of JAX's, `RANKS`, and gets its process group as text: the positions
of ranks along that axis, groups that all act at once, as `0,1|2,3`. Within a group the order is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Never

import jax.numpy as jnp
from jax import Array, lax

from ..jax_compat import RANKS
from ..table import foreign_kernel


def _groups(group_name: str) -> list[list[int]]:
    return [list(map(int, group.split(","))) for group in group_name.split("|")]


def _place(groups: Sequence[Sequence[int]]) -> Array:
    """Return the place of the rank that computes within its group, an int32 without dimensions."""
    places = {rank: place for group in groups for place, rank in enumerate(group)}
    return jnp.asarray([places[rank] for rank in range(len(places))], jnp.int32)[lax.axis_index(RANKS)]


_SUMS = ("sum", "avg")
# From so many ranks on a second stage costs little: a pair's share is an eighth of the whole, or less.
_MANY = 16
_COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "product": jnp.multiply,
    "min": jnp.minimum,
    "max": jnp.maximum,
    "band": jnp.bitwise_and,
    "bor": jnp.bitwise_or,
    "bxor": jnp.bitwise_xor,
}


def _check(reduce_op: str, dtype: jnp.dtype) -> str:
    operation = reduce_op.lower()
    if operation not in (*_SUMS, *_COMBINE):
        raise NotImplementedError(f"no collective reduces by {reduce_op!r}; there are {', '.join((*_SUMS, *_COMBINE))}")
    if operation == "avg" and not jnp.issubdtype(dtype, jnp.inexact):
        raise NotImplementedError(f"an average of {dtype} is no {dtype}: sum, and divide what comes out")
    if operation in ("min", "max") and jnp.issubdtype(dtype, jnp.complexfloating):
        raise NotImplementedError(f"complex numbers have no order to take the {operation} by")
    return operation


def _summable(value: Array) -> Array:
    # Sums of booleans are true where one is, as in PyTorch, and wrap around in no small integer type.
    return value.astype(jnp.int32) if value.dtype == jnp.bool_ else value


def _all_reduce(value: Array, reduce_op: str, group_name: str) -> Array:
    groups, operation = _groups(group_name), _check(reduce_op, value.dtype)
    if operation in _SUMS:
        total = lax.psum(_summable(value), RANKS, axis_index_groups=groups)
        return total / len(groups[0]) if operation == "avg" else total.astype(value.dtype)
    if operation in ("min", "max") and value.dtype != jnp.bool_:
        every = lax.pmin if operation == "min" else lax.pmax
        return every(value, RANKS, axis_index_groups=groups)
    values = lax.all_gather(value, RANKS, axis_index_groups=groups)
    return reduce(_COMBINE[operation], [values[i] for i in range(len(groups[0]))])


def _all_gather(value: Array, group_name: str) -> Array:
    tiled = value.reshape(1) if value.ndim == 0 else value
    return lax.all_gather(tiled, RANKS, axis_index_groups=_groups(group_name), tiled=True)


def _reduce_scatter(value: Array, reduce_op: str, group_name: str) -> Array:
    groups, operation = _groups(group_name), _check(reduce_op, value.dtype)
    size = len(groups[0])
    if value.shape[0] % size:
        raise NotImplementedError(f"{value.shape[0]} rows cannot be scattered over {size} ranks: pad them")
    if operation in _SUMS:
        total = lax.platform_dependent(
            _summable(value), tpu=partial(_sum_in_stages, groups=groups), default=partial(_sum, groups=groups)
        )
        return total / size if operation == "avg" else total.astype(value.dtype)
    pieces = lax.all_to_all(value, RANKS, 0, 0, axis_index_groups=groups, tiled=True)
    return reduce(_COMBINE[operation], jnp.split(pieces, size))


def _sum(value: Array, groups: list[list[int]]) -> Array:
    return lax.psum_scatter(value, RANKS, axis_index_groups=groups, tiled=True)


def _sum_in_stages(value: Array, groups: list[list[int]]) -> Array:
    """Sum over groups and scatter the rows, as TPUs do well: over every second rank first, then over pairs.

    Of a group of all chips libtpu 0.0.52 makes an all-reduce, whose result is as large as `value` and takes twice the
    time, unless the chips lie in a rectangle of two squares. Half the chips it scatters as they are; what is left for
    the pairs is small.
    """
    ranks = groups[0]
    if len(groups) > 1 or len(ranks) < _MANY or len(ranks) % 2:
        return _sum(value, groups)
    halves = _sum(value, [ranks[::2], ranks[1::2]])
    return _sum(halves, [ranks[i : i + 2] for i in range(0, len(ranks), 2)])


@foreign_kernel("_c10d_functional::all_reduce")
def all_reduce(input: Array, reduce_op: str, group_name: str) -> Array:
    """Reduce a tensor over the ranks of a group, elementwise; every rank gets the result.

    Source: torch.distributed._functional_collectives, StableHLO `all_reduce`.
    """
    return _all_reduce(input, reduce_op, group_name)


@foreign_kernel("_c10d_functional::all_reduce_coalesced")
def all_reduce_coalesced(inputs: list[Array], reduce_op: str, group_name: str) -> tuple[Array, ...]:
    """Reduce several tensors over the ranks of a group; XLA combines what it can."""
    return tuple(_all_reduce(value, reduce_op, group_name) for value in inputs)


@foreign_kernel("_c10d_functional::all_gather_into_tensor")
def all_gather_into_tensor(input: Array, group_size: int, group_name: str) -> Array:
    """Concatenate the tensors of a group's ranks along their first dimension.

    Source: torch.distributed._functional_collectives, StableHLO `all_gather`.
    """
    return _all_gather(input, group_name)


@foreign_kernel("_c10d_functional::all_gather_into_tensor_coalesced")
def all_gather_into_tensor_coalesced(inputs: list[Array], group_size: int, group_name: str) -> tuple[Array, ...]:
    """Concatenate each of several tensors over a group's ranks along its first dimension."""
    return tuple(_all_gather(value, group_name) for value in inputs)


@foreign_kernel("_c10d_functional::reduce_scatter_tensor")
def reduce_scatter_tensor(input: Array, reduce_op: str, group_size: int, group_name: str) -> Array:
    """Reduce a tensor over a group's ranks, each of which gets its share of the rows.

    Raises NotImplementedError for rows that are no multiple of the ranks. Source:
    torch.distributed._functional_collectives, StableHLO `reduce_scatter`.
    """
    return _reduce_scatter(input, reduce_op, group_name)


@foreign_kernel("_c10d_functional::reduce_scatter_tensor_coalesced")
def reduce_scatter_tensor_coalesced(
    inputs: list[Array], reduce_op: str, group_size: int, group_name: str
) -> tuple[Array, ...]:
    """Reduce each of several tensors over a group's ranks, each of which gets its share of the rows."""
    return tuple(_reduce_scatter(value, reduce_op, group_name) for value in inputs)


@foreign_kernel("_c10d_functional::all_to_all_single")
def all_to_all_single(
    input: Array, output_split_sizes: Sequence[int], input_split_sizes: Sequence[int], group_name: str
) -> Array:
    """Send each rank of a group its share of the rows, and concatenate what they send.

    Raises NotImplementedError for shares of several sizes: all ranks run one program, whose shapes are the same on
    all. Source: torch.distributed._functional_collectives, StableHLO `all_to_all`.
    """
    if len({*output_split_sizes, *input_split_sizes}) > 1:
        raise NotImplementedError(
            f"all ranks run one program, in which shares of {list(input_split_sizes)} rows have no shape; "
            "pad them to equal ones, or exchange them between compiled functions; in the place of permute_tensor "
            "gather the tensors and take one"
        )
    return lax.all_to_all(input, RANKS, 0, 0, axis_index_groups=_groups(group_name), tiled=True)


@foreign_kernel("_dtensor::shard_dim_alltoall")
def shard_dim_alltoall(input: Array, gather_dim: int, shard_dim: int, group_name: str) -> Array:
    """Turn shards of one dimension into shards of another.

    Source: torch.distributed.tensor, StableHLO `all_to_all`.
    """
    groups = _groups(group_name)
    return lax.all_to_all(input, RANKS, shard_dim, gather_dim, axis_index_groups=groups, tiled=True)


@foreign_kernel("_c10d_functional::broadcast")
def broadcast(input: Array, src: int, group_name: str) -> Array:
    """Return the tensor of one rank of a group on all of them, to the bit.

    src: its place in the group. Source: torch.distributed._functional_collectives.
    """
    groups = _groups(group_name)
    return _bits_of_one(input, _place(groups) == src, groups)


def _bits_of_one(value: Array, chosen: Array, groups: list[list[int]]) -> Array:
    """Return the value of the rank of each group for which `chosen` is true, bit by bit: sums would lose -0.0."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return lax.complex(*(_bits_of_one(part, chosen, groups) for part in (value.real, value.imag)))
    if value.dtype == jnp.bool_:
        bits = value.astype(jnp.uint8)
    else:
        bits = lax.bitcast_convert_type(value, jnp.dtype(f"uint{8 * value.dtype.itemsize}"))
    total = lax.psum(jnp.where(chosen, bits, jnp.zeros_like(bits)), RANKS, axis_index_groups=groups)
    return total.astype(jnp.bool_) if value.dtype == jnp.bool_ else lax.bitcast_convert_type(total, value.dtype)


@foreign_kernel("tpu_dynamo::value_of_rank")
def value_of_rank(values: Sequence[int]) -> Array:
    """Return the number that a list has for the rank that computes: the list has one for each position.

    Source: StableHLO `replica_id`.
    """
    return jnp.asarray(values, jnp.int64)[lax.axis_index(RANKS)]


@foreign_kernel("tpu_dynamo::slice_at")
def slice_at(self: Array, dim: int, start: Array, length: int) -> Array:
    """Return `length` entries of a dimension from a start on, an integer without dimensions.

    Source: StableHLO `dynamic_slice`.
    """
    return lax.dynamic_slice_in_dim(self, start, length, dim)


@foreign_kernel("tpu_dynamo::put_at")
def put_at(self: Array, values: Array, dim: int, start: Array) -> Array:
    """Return the tensor with other values from an entry of a dimension on, an integer without dimensions.

    Source: StableHLO `dynamic_update_slice`.
    """
    return lax.dynamic_update_slice_in_dim(self, values, start, dim)


@foreign_kernel("_c10d_functional::wait_tensor")
def wait_tensor(tensor: Array) -> Array:
    """Return a collective's result: within a program XLA waits for it where it is used."""
    return tensor


@foreign_kernel("_c10d_functional::_wrap_tensor_autograd")
def wrap_tensor_autograd(input: Array) -> Array:
    """Return the tensor: torch wraps what autograd is to wait for, which a program need not know."""
    return input


def _refuse_transfer() -> Never:
    raise NotImplementedError(
        "all ranks run one program, which cannot send on one of them and receive on another; send and receive between "
        "compiled functions, as the stages of torch.distributed.pipelining do"
    )


@foreign_kernel("_c10d_functional::isend")
def isend(tensor: Array, dst: int, tag: int, group_name: str) -> Array:
    """Refuse to send to one rank, since all ranks run one program. Raises NotImplementedError."""
    _refuse_transfer()


@foreign_kernel("_c10d_functional::irecv")
def irecv(tensor: Array, src: int, tag: int, group_name: str) -> Array:
    """Refuse to receive from one rank, since all ranks run one program. Raises NotImplementedError."""
    _refuse_transfer()


@foreign_kernel("_c10d_functional::batch_p2p_ops")
def batch_p2p_ops(
    op_list: Sequence[str], peer_list: Sequence[int], tag_list: Sequence[int], tensors: list[Array], group_name: str
) -> tuple[Array, ...]:
    """Refuse to send and receive, since all ranks run one program. Raises NotImplementedError."""
    _refuse_transfer()
