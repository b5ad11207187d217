"""One slice of a tensor of bytes on a TPU: gathered as of two, with the same result."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
import torch
from jax import lax

from tpu_dynamo_lowering.pipeline import lower, trace
from tpu_dynamo_lowering.tpu import rows


def lookup(table: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.embedding(indices, table)


def gathers(platform: str, dtype: torch.dtype, tokens: int, size: int = 4096) -> str:
    """Return the operation that looks tokens up in a table, as a program for a platform has it."""
    specs = [((size, 64), (64, 1), dtype), ((1, tokens), (tokens, 1), torch.int64)]
    text = lower(trace(lookup, specs), {}, platform=platform).text()
    (line,) = [line for line in text.splitlines() if "stablehlo.gather" in line]
    return line.rpartition(" : ")[2]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn], ids=str)
def test_a_single_row_of_bytes_is_gathered_twice_for_a_tpu(dtype):
    assert "tensor<2x64x" in gathers("tpu", dtype, 1)


@pytest.mark.parametrize(
    ("platform", "dtype", "tokens", "size"),
    [
        pytest.param("cpu", torch.int8, 1, 4096, id="cpu"),
        pytest.param("tpu", torch.bfloat16, 1, 4096, id="bfloat16"),
        pytest.param("tpu", torch.int8, 3, 4096, id="several"),
        pytest.param("tpu", torch.int8, 1, 16, id="small"),
    ],
)
def test_other_lookups_stay_as_they_are(platform, dtype, tokens, size):
    assert "tensor<2x" not in gathers(platform, dtype, tokens, size)


@pytest.mark.parametrize(
    ("numbers", "sizes", "indices"),
    [
        pytest.param(((1,), (0,), (0,)), (1, 5), [[3]], id="row"),
        pytest.param(((2,), (0,), (0,)), (1, 5), [[[3]]], id="row-of-a-batch"),
        pytest.param(((0,), (1,), (1,)), (6, 1), [4], id="column-without-a-batch"),
        pytest.param(((0, 1), (), (0, 1)), (2, 3), [9, -1], id="part-out-of-bounds"),
    ],
)
def test_the_slice_is_that_of_a_gather(numbers, sizes, indices):
    operand, indices = jnp.arange(30, dtype=jnp.int8).reshape(6, 5), jnp.array(indices)
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    gather = functools.partial(
        lax.gather, dimension_numbers=lax.GatherDimensionNumbers(*numbers), slice_sizes=sizes, mode=mode
    )
    expected = jax.jit(gather)(operand, indices)
    _, collapsed, start = numbers
    parameters = dict(collapsed=collapsed, start_index_map=start, slice_sizes=sizes, shape=expected.shape)
    actual = jax.jit(functools.partial(rows.gather_one, **parameters))(operand, indices)
    assert (actual == expected).all()
