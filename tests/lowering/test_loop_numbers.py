"""Ints that loops and branches carry: tensors in the program, ints for the caller."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.while_loop import while_loop

pytestmark = pytest.mark.sampled(2)


def counts(x):
    return while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a + i), (0, x))


def never_runs(x):
    return while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a + i), (9, x))


def two_ints(x):
    return while_loop(
        lambda i, j, a: i + j < 10, lambda i, j, a: (i + 1, j + i % 3, (a * (i / 4)).clamp(max=i + 1)), (0, 1, x)
    )


def up_to_a_size(x):
    return while_loop(lambda i, n, a: i < n, lambda i, n, a: (i + 1, n, a + i / 2), (0, x.shape[0], x))


def indexes(x):
    return while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a + a[i] * i / 2), (0, x))


def indexes_from_the_end(x):
    return while_loop(lambda i, a: i > -3, lambda i, a: (i - 1, a + a[i]), (-1, x))


def writes(x):
    return while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, torch.select_scatter(a, a[i] * 2, 0, i)), (0, x))


def compares(x):
    def body(i, a):
        return i + 1, torch.where(a > i, a.pow(i), torch.full((3,), i, dtype=a.dtype))

    return while_loop(lambda i, a: i < 4, body, (0, x))


def condition_of_tensors(x):
    count, total = while_loop(lambda i, a: a.sum() < 40, lambda i, a: (i * 2 + i // 2 + 1, a + i**2), (1, x))
    return total * count, count * 2 + 1, count / 3


def nested(x):
    def body(i, a):
        return i + 1, while_loop(lambda j, b: j < i, lambda j, b: (j + 1, b * 2 + j), (0, a))[1]

    return while_loop(lambda i, a: i < 3, body, (0, x))


def in_a_branch(x):
    def body(i, a):
        return i + 1, torch.cond(a.sum() > 5, lambda a: a + i, lambda a: a * 3, (a,))

    return while_loop(lambda i, a: i < 3, body, (0, x))


def mixed_with_tensors(x):
    def body(i, f, b, a):
        return i + 1, f / 2, ~b, torch.where(b, a * f, a + i)

    return while_loop(lambda i, f, b, a: i < 3, body, (0, torch.tensor(2.0), torch.tensor(True), x))


LOOPS = [
    counts, never_runs, two_ints, up_to_a_size, indexes, indexes_from_the_end, writes, compares, condition_of_tensors,
    nested, in_a_branch, mixed_with_tensors,
]  # fmt: skip


@pytest.mark.parametrize("function", LOOPS, ids=lambda f: f.__name__)
def test_loops_over_ints(matches_eager, function):
    matches_eager(function, torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16], ids=str)
def test_an_int_promotes_as_a_python_number(matches_eager, dtype):
    def loop(x):
        return while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, (a * i).to(a.dtype)), (1, x))

    matches_eager(loop, torch.tensor([1, 0, 3]).to(dtype))
    matches_eager(loop, torch.tensor(1).to(dtype))


def test_a_loop_on_the_device_returns_its_int():
    x = torch.ones(3)
    count, total = torch.compile(counts, backend="tpu", fullgraph=True)(x.to("tpu"))
    assert (count, total.tolist()) == (4, [7.0] * 3)


def test_another_size_finds_the_loop_again():
    compiled = torch.compile(up_to_a_size, backend="tpu", fullgraph=True)
    for size in (3, 4, 5):
        count, _, total = compiled(torch.zeros(size))
        assert (count, total[0].item()) == (size, sum(range(size)) / 2)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda i, a: (i + 1, a + torch.roll(a, i)), id="roll"),
        pytest.param(lambda i, a: (i + 1, a + torch.arange(i + 1).sum()), id="arange"),
    ],
)
def test_a_number_that_must_be_known_is_refused_with_the_reason(function):
    compiled = torch.compile(lambda x: while_loop(lambda i, a: i < 3, function, (0, x)), backend="tpu", fullgraph=True)
    with pytest.raises(
        Exception, match="takes a number that a loop computes where a program can have only one that is"
    ):
        compiled(torch.ones(3))
