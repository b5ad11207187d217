"""Sparse gradients of embeddings are the sparse tensors that eager gives; other sparse tensors are refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo
from tests.tpu_dynamo.test_cache import forget
from tpu_dynamo_lowering import UnsupportedOp, lower, trace

pytestmark = pytest.mark.sampled(3)

aten = torch.ops.aten

TABLE = torch.linspace(-1, 1, 15).reshape(5, 3)
INDICES = torch.tensor([[1, 1, 3], [0, 4, 1]])
OFFSETS = torch.tensor([0, 2, 2, 6])


ROWS = torch.linspace(1, 2, 5)[:, None]


def bags(mode: str, **options: Any) -> Callable[[Tensor], Tensor]:
    return lambda table: F.embedding_bag(INDICES.reshape(-1), table, OFFSETS, mode=mode, sparse=True, **options)


USES: dict[str, Callable[[Tensor], Tensor]] = {
    "embedding": lambda table: F.embedding(INDICES, table, sparse=True),
    "embedding of one": lambda table: F.embedding(INDICES[0, 2], table, sparse=True),
    "embedding of none": lambda table: F.embedding(INDICES[:0], table, sparse=True),
    "bags that are summed": bags("sum"),
    "means of bags": bags("mean"),
    "an index that does not count": bags("mean", padding_idx=1),
    "offsets with the last": bags("sum", include_last_offset=True),
    "bags of equal lengths": lambda table: F.embedding_bag(INDICES, table, sparse=True),
    "two uses": lambda table: F.embedding(INDICES, table, sparse=True) * F.embedding(INDICES + 0, table, sparse=True),
    "two uses, one with gaps": lambda table: (
        bags("sum", padding_idx=1)(table).sum() + F.embedding(INDICES, table, sparse=True).square()
    ),
    "a scaled table": lambda table: F.embedding(INDICES, table * 2, sparse=True),
    "a table that is changed before": lambda table: F.embedding(INDICES, table.exp() - table * table, sparse=True),
    "rows that are scaled": lambda table: F.embedding(INDICES, table * ROWS / 2, sparse=True),
    "a dense use too": lambda table: F.embedding(INDICES, table, sparse=True) @ table.t(),
    "a dense use before": lambda table: bags("mean", padding_idx=1)(table * 1) @ table.sin().t(),
}


def gradient(function: Callable[[Tensor], Tensor], table: Tensor = TABLE) -> Tensor:
    leaf = table.clone().requires_grad_()
    function(leaf).square().sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def agree(ours: Tensor, theirs: Tensor) -> None:
    assert ours.layout == theirs.layout
    if theirs.is_sparse:
        assert ours.is_coalesced() == theirs.is_coalesced()
        torch.testing.assert_close(ours._indices(), theirs._indices())
        torch.testing.assert_close(ours._values(), theirs._values())
    torch.testing.assert_close(ours.to_dense(), theirs.to_dense())


@pytest.mark.parametrize("name", USES)
def test_gradients_are_eagers_and_sparse_where_they_are(name):
    agree(gradient(torch.compile(USES[name], backend="tpu")), gradient(USES[name]))


def test_gradients_of_half_precision():
    agree(
        gradient(torch.compile(USES["means of bags"], backend="tpu"), TABLE.half()),
        gradient(USES["means of bags"], TABLE.half()),
    )


def test_programs_from_the_cache_give_them_too():
    expected = gradient(USES["means of bags"])
    gradient(torch.compile(USES["means of bags"], backend="tpu"))
    forget()
    agree(gradient(torch.compile(USES["means of bags"], backend="tpu")), expected)
    assert (tpu_dynamo.stats().lowerings, tpu_dynamo.stats().fallbacks) == (0, {})


def test_sizes_may_change():
    compiled = torch.compile(lambda table, i: F.embedding(i, table, sparse=True), backend="tpu", dynamic=True)
    for count in (1, 4, 6):
        indices = torch.arange(count) % 5
        ours = gradient(lambda table, i=indices: compiled(table, i))
        agree(ours, gradient(lambda table, i=indices: F.embedding(i, table, sparse=True)))


@pytest.mark.parametrize(
    "make",
    [lambda p: torch.optim.SparseAdam(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.Adagrad(p)],
    ids=["SparseAdam", "SGD", "Adagrad"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")  # Adagrad makes sparse tensors
def test_optimizers_that_take_sparse_gradients_step_as_in_eager(kind, make):
    theirs = kind(5, 3, sparse=True)
    ours = copy.deepcopy(theirs)
    for model, run in ((theirs, theirs), (ours, torch.compile(ours, backend="tpu"))):
        optimizer = make(list(model.parameters()))
        for _ in range(3):
            optimizer.zero_grad()
            run(INDICES).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_on_the_device_they_are_refused():
    compiled = torch.compile(lambda table, i: F.embedding(i, table, sparse=True), backend="tpu")
    leaf = TABLE.to("tpu").requires_grad_()
    with pytest.raises(UnsupportedOp, match="tpu has no sparse tensors"):
        compiled(leaf, INDICES.to("tpu")).sum().backward()


def test_operators_on_them_are_refused_by_name():
    def tangent(indices: Tensor, values: Tensor) -> Tensor:
        size = [5, 3]
        made = aten._sparse_coo_tensor_with_dims_and_tensors(1, 1, size, indices, values, layout=torch.sparse_coo)
        return aten.tan(made)

    graph = trace(tangent, [((1, 6), (6, 1), torch.int64), ((6, 3), (3, 1), torch.float32)])
    with pytest.raises(UnsupportedOp, match=r"aten\.tan\.default\(float32\[5, 3\]\): it takes a sparse tensor"):
        lower(graph, {}, platform="cpu")
