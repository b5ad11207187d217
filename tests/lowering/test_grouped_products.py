"""Products by group: kernels for TPUs compute what loops over groups do, with matrices as they lie in memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tpu_dynamo_lowering import jax_compat, lower
from tpu_dynamo_lowering.kernels.grouped_tiles import _row_tile, groups_by_kernel, rows_by_kernel, suits_kernel

from .graphs import traced

SIZES = {
    "all-rows": (60, 0, 130, 110),
    "rows-past-the-last": (5, 200, 0, 3),
    "one-group": (0, 0, 300, 0),
    "no-rows": (0, 0, 0, 0),
}


def of_groups(sizes):
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_rows_are_multiplied_by_the_matrices_of_their_groups(sizes, transposed):
    numbers = np.random.default_rng(0)
    rows, matrices = (numbers.standard_normal(s).astype(np.float32) for s in ((300, 40), (4, 40, 24)))
    expected = np.zeros((300, 24), np.float32)
    for group, part in enumerate(of_groups(sizes)):
        expected[part] = rows[part] @ matrices[group]
    given = matrices.swapaxes(1, 2) if transposed else matrices
    found = rows_by_kernel(
        jnp.asarray(rows), jnp.asarray(given), jnp.asarray(sizes, jnp.int32), transposed, "highest", True
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_each_group_is_multiplied_over_its_own_rows():
    numbers = np.random.default_rng(0)
    left, right = (numbers.standard_normal((300, n)).astype(np.float32) for n in (40, 24))
    sizes = SIZES["rows-past-the-last"]
    expected = np.stack([left[part].T @ right[part] for part in of_groups(sizes)])
    found = groups_by_kernel(jnp.asarray(left), jnp.asarray(right), jnp.asarray(sizes, jnp.int32), "highest", True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_tiles_are_a_quarter_of_the_rows_of_a_group():
    assert [_row_tile(rows, 8) for rows in (16, 4096, 8192, 20000, 10**6)] == [128, 128, 256, 512, 512]


def test_kernels_take_operands_of_one_float_dtype():
    half, single, none = jnp.ones((2, 2), jnp.bfloat16), jnp.ones((2, 2)), jnp.ones((0, 2))
    assert suits_kernel(half, half)
    assert suits_kernel(single, single)
    assert not suits_kernel(half, single)
    assert not suits_kernel(single, none)
    assert not suits_kernel(half.astype(jnp.float16), half.astype(jnp.float16))


@pytest.mark.parametrize("transpose", [lambda m: m.transpose(-2, -1), lambda m: m.permute(0, 2, 1)])
def test_a_tpu_multiplies_by_matrices_as_they_lie(transpose, monkeypatch):
    def experts(rows, matrices, ends):
        return torch._grouped_mm(rows, transpose(matrices), ends)

    given = (
        torch.randn(64, 32, dtype=torch.bfloat16),
        torch.randn(4, 16, 32, dtype=torch.bfloat16),
        torch.tensor([10, 20, 20, 64], dtype=torch.int32),
    )
    graph = traced(experts, *given)
    monkeypatch.setattr(jax, "devices", lambda *_: pytest.fail("lowering starts JAX's backends"))
    program = lower(graph, {}, platform="tpu")
    assert program.custom_calls == ("tpu_custom_call",)
    assert "stablehlo.transpose" not in jax_compat.as_text(program.stablehlo)
    assert lower(graph, {}, platform="cpu").custom_calls == ()
