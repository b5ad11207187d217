"""Copies of views, and strided views of memory read and written."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import TABLE
from tpu_dynamo_lowering._torch_compat import copies_of_views, torch_decomposition

aten = torch.ops.aten

LAYOUTS = {
    "vector": torch.arange(12.0),
    "matrix": torch.arange(100.0).view(10, 10),
    "transposed": torch.arange(12.0).view(3, 4).t(),
    "permuted": torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
}


def test_every_copy_of_a_view_that_has_a_lowering_has_one():
    without = [
        copy for copy, view in copies_of_views() if (view in TABLE or torch_decomposition(view)) and copy not in TABLE
    ]
    assert not without


@pytest.mark.parametrize("layout", ["matrix", "transposed"])
def test_copies_of_views(matches_eager, layout):
    def copies(x):
        return (
            aten.alias_copy(x), aten.detach_copy(x), aten.t_copy(x), aten.split_copy(x, 2, 1), aten.unbind_copy(x),
            aten.split_with_sizes_copy(x, [1, x.shape[0] - 1]), aten.select_copy(x, 0, 1), aten.unsqueeze_copy(x, 1),
            aten.slice_copy(x, 0, 1, 3, 2), aten.lift_fresh_copy(x), aten.narrow_copy(x, 0, 1, 2),
            aten.unfold_copy(x, 0, 2, 1), aten.diagonal_copy(x), aten.expand_copy(x, [2, *x.shape]),
            aten.permute_copy(x, [1, 0]), aten.squeeze_copy(x), aten.squeeze_copy(x, 0), aten.squeeze_copy(x, [0]),
            aten.transpose_copy(x, 0, 1), aten._reshape_copy(x, [-1]),
        )  # fmt: skip

    matches_eager(copies, LAYOUTS[layout])


def test_copies_of_views_that_read_the_memory_otherwise(matches_eager):
    def copies(x):
        parts = aten.view_as_real_copy(x)
        copy = aten.t_copy(x)
        return (
            aten._conj_copy(x), parts, aten.view_as_complex_copy(parts), aten._neg_view_copy(x),
            aten.view_copy(x, [-1]), aten.view_copy(parts, torch.int32), aten._reshape_alias_copy(x, [12], [1]),
            torch.as_strided_copy(copy, (3, 2), (3, 1), 2),
        )  # fmt: skip

    matches_eager(copies, torch.randn(3, 4, dtype=torch.complex64))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_views_of_memory(matches_eager, layout):
    def views(x):
        return (
            torch.as_strided_copy(x, (2, 3), (1, 2), 1),  # overlapping
            torch.as_strided_copy(x, (2, 2, 2), (4, 1, 2)),
            torch.as_strided_copy(x, (2, 2), (0, 2)),
            torch.as_strided_copy(x, (), (), 3),
            torch.as_strided_copy(x, (0, 2), (2, 1)),
            torch.as_strided_scatter(x, torch.ones(2, 2), (2, 2), (5, 1), 1),
            torch.as_strided_scatter(x, torch.tensor(7.0), (), (), 2),
            torch.as_strided_scatter(x, torch.ones(0, 2), (0, 2), (1, 2)),
        )

    matches_eager(views, LAYOUTS[layout])


def test_views_without_elements_are_read_on_the_device():
    x = torch.zeros(2, 0, device="tpu")
    assert x.cpu().shape == (2, 0)
    assert torch.ones(1, device="tpu").expand(0, 3).contiguous().cpu().shape == (0, 3)
