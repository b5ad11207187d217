"""Maximum pooling whose windows stand where there is nothing to take the maximum of."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F


def strays(n, kernel, stride, padding, dilation, ceil):
    """Return True if eager has a window of one dimension without any place of it."""
    try:
        values = F.max_pool1d(torch.ones(1, 1, n), kernel, stride, padding, dilation, ceil)
    except RuntimeError:
        return False
    return bool((values < 0).any())


ALL = itertools.product((1, 2, 3), (2, 3), (1, 2, 4), (1,), (2, 3, 4), (False, True))
STRAYING = [case for case in ALL if strays(*case)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32], ids=str)
def test_windows_beside_the_tensor_have_the_place_that_eager_names(matches_eager, dtype):
    assert len(STRAYING) > 10
    for n, kernel, stride, padding, dilation, ceil in STRAYING[:: 3 if dtype == torch.float32 else 9]:
        x = torch.arange(1, 4 * n + 1).reshape(1, 2, 2, n).to(dtype)
        args = (1, kernel), (1, stride), (0, padding), (1, dilation), ceil
        matches_eager(lambda x, a=args: F.max_pool2d(x, *a, return_indices=True), x)


def test_windows_beside_the_tensor_in_other_ranks(matches_eager):
    x = torch.arange(1.0, 13).reshape(1, 1, 2, 2, 3)
    deep = (1, 1, 2), (1, 1, 4), (0, 0, 1), (1, 1, 4), True
    matches_eager(lambda x: F.max_pool3d(x, *deep, return_indices=True), x)
    matches_eager(lambda x: F.max_pool1d(x[0, 0, 0, :, :1], 2, 1, 1, 2, return_indices=True), x)
    rows = (2, 2), (1, 1), (1, 0), (2, 1)
    matches_eager(lambda x: F.max_pool2d(x[0, 0, :1], *rows, return_indices=True), x)
    last = x[0].to(memory_format=torch.channels_last)
    matches_eager(lambda x: F.max_pool2d(x, (1, 2), (1, 4), (0, 1), (1, 4), True, return_indices=True), last)


def test_the_gradient_goes_where_the_place_is_if_there_is_one():
    # The window of the first row is named by the first place of the second; that of the second row by none, where
    # eager writes beyond its memory.
    x = torch.arange(1.0, 7).reshape(1, 1, 2, 3).requires_grad_()
    compiled = torch.compile(lambda x: F.max_pool2d(x, (1, 2), (1, 4), (0, 1), (1, 4), True), backend="tpu")
    compiled(x).backward(torch.tensor([[[[3.0], [5.0]]]]))
    assert x.grad.tolist() == [[[[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]]]


def test_windows_of_nothing_but_the_lowest_have_their_first_place(matches_eager):
    x = torch.tensor([[[1.0, float("nan")], [-float("inf"), -float("inf")]]])
    matches_eager(lambda x: F.max_pool2d(x, (1, 2), 1, (0, 1), return_indices=True), x)
