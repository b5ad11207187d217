"""Memory of inputs that a compiled graph overwrites is taken over only if nothing else holds it."""

from __future__ import annotations

import sys

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.device import device_executable, references
from tpu_dynamo.device.cells import cell_of


class Count(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(64))

    def forward(self, x):
        self.total += x
        return self.total.sum()


class Repeated(Count):
    def forward(self, x):
        self.total += x
        return self.total.clone()


@pytest.fixture
def add():
    torch._dynamo.reset()
    count = Count().to("tpu")
    compiled, one = torch.compile(count, backend="tpu"), torch.ones(64).to("tpu")

    def add() -> tuple[int, int]:
        """Return how many buffers a call took over, and how many it refused to."""
        tpu_dynamo.reset_stats()
        with torch.no_grad():
            compiled(one)
        stats = tpu_dynamo.stats()
        return stats.donations, sum(stats.donations_refused.values())

    add.total = count.total
    add()
    return add


def values(tensor):
    return tensor.detach().cpu().unique().tolist()


def test_memory_is_taken_over_again_once_its_copy_is_gone(add):
    assert add() == (1, 0)
    copy = add.total.clone()
    assert add() == (0, 1)
    assert (values(copy), values(add.total)) == ([2.0], [3.0])
    again = add.total.clone()
    del again
    assert add() == (1, 0)


def test_views_are_no_copies_and_see_the_new_values(add):
    view = add.total[:3]
    assert add() == (1, 0)
    assert values(view) == [2.0]


def test_copies_that_only_autograd_holds_keep_their_values(add):
    weight = torch.ones(64, device="tpu", requires_grad=True)
    product = (weight * add.total.clone()).sum()
    assert add() == (0, 1)
    product.backward()
    assert values(weight.grad) == [1.0]


def test_operands_of_another_execution_keep_their_memory(add):
    operands = [cell_of(add.total).buffer]
    assert add() == (0, 1)
    assert not operands[0].is_deleted()


def test_a_result_that_is_also_the_new_value_keeps_its_memory():
    repeated = Repeated().to("tpu")
    compiled, one = torch.compile(repeated, backend="tpu"), torch.ones(64).to("tpu")
    with torch.no_grad():
        results = [compiled(one) for _ in range(3)]
    assert [values(result) for result in results] == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize("more", [-1, 2])
def test_a_python_that_counts_otherwise_takes_over_the_same(add, monkeypatch, more):
    monkeypatch.setattr(references, "getrefcount", lambda held: sys.getrefcount(held) + more)
    monkeypatch.setattr(device_executable, "_COUNT_WITH_ONE_CELL", device_executable._count_with_one_cell())
    assert add() == (1, 0)
    copy = add.total.clone()
    assert add() == (0, 1)
    assert values(copy) == [2.0]
