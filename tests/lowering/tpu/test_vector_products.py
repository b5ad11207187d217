"""Products of small matrices with wide ones, on a TPU's vector unit: values are those of einsum."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering import lower, prepare
from tpu_dynamo_lowering.kernels.contractions import einsum
from tpu_dynamo_lowering.kernels.vector_products import suits_vectors
from tpu_dynamo_lowering.target import Target

from ..graphs import traced

INF = float("inf")
PATTERNS = [
    pytest.param("abcf,afbde->abcde", (2, 3, 3, 3), (2, 3, 3, 5, 40), id="states-by-chunks"),
    pytest.param("zk,kn->nz", (2, 3), (3, 200), id="no-batch-turned-round"),
    pytest.param("bnk,bkm->bmn", (2, 130, 2), (2, 2, 2), id="the-right-one-small"),
    pytest.param("bn,bm->bnm", (2, 1), (2, 128), id="outer"),
    pytest.param("bpqm,bpqn->bmn", (3, 2, 1, 2), (3, 2, 1, 128), id="sums-over-two"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("pattern", "left", "right"), PATTERNS)
def test_products_are_those_of_einsum(pattern, left, right, dtype):
    torch.manual_seed(0)
    given = [torch.randn(shape).to(dtype) for shape in (left, right)]
    given[1].view(-1)[[1, 7]] = torch.tensor([INF, float("nan")], dtype=dtype)
    arrays = [jnp.asarray(each.double().numpy()).astype(str(dtype).split(".")[1]) for each in given]
    assert suits_vectors(pattern, *arrays)
    found = einsum(pattern, *arrays, compiled_for=Target("tpu"))
    expected = torch.einsum(pattern, *(each.float() for each in given))
    assert found.dtype == jnp.float32
    torch.testing.assert_close(torch.tensor(found.tolist()), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("pattern", "left", "right"),
    [
        pytest.param("abcf,afbde->abcde", (2, 3, 9, 3), (2, 3, 3, 5, 40), id="rows"),
        pytest.param("mk,kn->mn", (2, 9), (9, 200), id="columns"),
        pytest.param("mk,kn->mn", (2, 3), (3, 100), id="narrow"),
        pytest.param("mk,kn->mn", (2, 0), (0, 200), id="nothing"),
    ],
)
def test_other_products_are_for_the_matrix_unit(pattern, left, right):
    assert not suits_vectors(pattern, jnp.zeros(left), jnp.zeros(right))


def test_integers_are_for_the_matrix_unit():
    assert not suits_vectors("mk,kn->mn", jnp.zeros((2, 3), jnp.int8), jnp.zeros((3, 200), jnp.int8))


def test_a_program_for_a_tpu_multiplies_without_a_product():
    def mix(chunks, states):
        return torch.einsum("bzch,bzhp->bchp", chunks, states)

    graph = prepare(traced(mix, torch.randn(2, 3, 3, 4), torch.randn(2, 3, 4, 200)))
    assert "dot_general" not in lower(graph, {}, platform="tpu").text()
    assert "dot_general" in lower(graph, {}, platform="cpu").text()
