"""Bags of embeddings whose last offset stands before the end of the indices, in every mode and dtype."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

import tpu_dynamo  # noqa: F401, which registers the device

pytestmark = pytest.mark.sampled(3)

NAN = float("nan")
IDS = [1, 2, 4, 5, 4, 3, 9]

MODES = [
    pytest.param(mode, weighted, padding, id=f"{mode}{'-weighted' * weighted}{'-padded' * (padding is not None)}")
    for mode, weighted, padding in itertools.product(("sum", "mean", "max"), (False, True), (None, 2))
    if mode == "sum" or not weighted
]


def table(dtype):
    return torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).to(dtype)


def bags_and_gradients(function, ids, offsets, dtype, mode, weighted, padding, device="cpu"):
    """The bags, and the gradients of their weighted sum in the table and in the weights of the rows."""
    weight = table(dtype).to(device).requires_grad_()
    each = torch.linspace(1, 2, len(ids), dtype=dtype).to(device).requires_grad_() if weighted else None
    bags = function(ids.to(device), weight, offsets.to(device), each, mode, padding)
    (bags * torch.arange(1, bags.numel() + 1).reshape(bags.shape).to(device, dtype)).sum().backward()
    return [x.detach().cpu() for x in (bags, weight.grad, each.grad if weighted else None) if x is not None]


def embedding_bag(ids, weight, offsets, each, mode, padding):
    return F.embedding_bag(
        ids, weight, offsets, mode=mode, per_sample_weights=each, padding_idx=padding, include_last_offset=True
    )


def expected(ids, offsets, dtype, mode, weighted, padding):
    """Eager's; where its gradient of a sum reads memory behind that of the bags, the gradient without those indices."""
    end = int(offsets[-1])
    if mode != "sum" or dtype == torch.float64 or padding is not None:
        return bags_and_gradients(embedding_bag, ids, offsets, dtype, mode, weighted, padding)

    def cut(ids, weight, offsets, each, mode, padding):
        return embedding_bag(ids[:end], weight, offsets, None if each is None else each[:end], mode, padding)

    return bags_and_gradients(cut, ids, offsets, dtype, mode, weighted, padding)


def check(device, dtype, mode, weighted, padding, ends, index=torch.int64):
    compiled = torch.compile(embedding_bag, backend="tpu", fullgraph=True, dynamic=False)
    case = (torch.tensor(IDS, dtype=index), torch.tensor(ends, dtype=index), dtype, mode, weighted, padding)
    torch.testing.assert_close(bags_and_gradients(compiled, *case, device=device), expected(*case))


@pytest.mark.parametrize(("mode", "weighted", "padding"), MODES)
def test_the_last_offset_ends_what_it_ends_in_eager(mode, weighted, padding):
    check("cpu", torch.float32, mode, weighted, padding, [0, 2, 4])


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "weighted", "padding"), MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_the_last_offset_in_every_dtype_and_on_the_device(device, dtype, mode, weighted, padding):
    for ends, index in (([0, 2, 4], torch.int64), ([0, 0, 2, 2], torch.int32)):
        check(device, dtype, mode, weighted, padding, ends, index)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_compiled_bags_on_the_device(mode):
    check("tpu", torch.float32, mode, False, None, [0, 2, 2])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_eager_bags_on_the_device(mode):
    case = (torch.tensor(IDS), torch.tensor([0, 2, 4]), torch.float32, mode, False, None)
    torch.testing.assert_close(bags_and_gradients(embedding_bag, *case, device="tpu"), expected(*case))


@pytest.mark.parametrize("mode", range(3), ids=["sum", "mean", "max"])
@pytest.mark.parametrize(
    ("ids", "offsets", "last", "padding"),
    [
        pytest.param(IDS, [0, 2, 4], True, -1, id="ends-early"),
        pytest.param(IDS, [0, 2, 2], True, 2, id="ends-early-padded"),
        pytest.param(IDS, [0, 0, 3, 7], False, -1, id="empty-bags"),
        pytest.param([], [0, 0], True, -1, id="no-indices"),
    ],
)
def test_sizes_and_origins_are_as_eager_gives_them(matches_eager, mode, ids, offsets, last, padding):
    def statistics(ids, weight, offsets):
        return torch.ops.aten._embedding_bag(weight, ids, offsets, False, mode, False, None, last, padding)

    matches_eager(statistics, torch.tensor(ids, dtype=torch.int64), table(torch.float32), torch.tensor(offsets))


def test_nan_is_the_largest_of_a_bag_only_if_it_comes_first(matches_eager):
    weight = torch.tensor([[1.0, NAN], [NAN, 2.0], [3.0, 3.0], [-float("inf"), NAN]])
    ids, offsets = torch.tensor([0, 1, 2, 1, 0, 2, 3, 3, 2]), torch.tensor([0, 3, 3, 6, 7])
    matches_eager(lambda i, w, o: torch.ops.aten._embedding_bag(w, i, o, False, 2), ids, weight, offsets)
