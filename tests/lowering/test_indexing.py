"""Reading and writing by index: masks beside integers, and scalars as indices and as what is indexed."""

from __future__ import annotations

import pytest
import torch

aten = torch.ops.aten

MASK = torch.tensor([[True, False, False, True], [False] * 4, [False, True, False, False]])

# Three places are named, in two dimensions.
BESIDE_A_MASK = {
    "a-number-after": lambda x, m, f: aten.index_put(x, [None, m, torch.tensor(1)], torch.tensor(2.0), f),
    "a-number-before": lambda x, m, f: aten.index_put(x, [torch.tensor(1), m], torch.tensor(2.0), f),
    "values": lambda x, m, f: aten.index_put(x, [torch.tensor(1), m], torch.arange(9.0).view(3, 3), f),
    "as-many": lambda x, m, f: aten.index_put(x, [torch.tensor([0, 1, 1]), m], torch.arange(9.0).view(3, 3), f),
    "rows": lambda x, m, f: aten.index_put(x, [torch.tensor([[0], [1]]), m], torch.arange(9.0).view(3, 3), f),
    "apart": lambda x, m, f: aten.index_put(x, [torch.tensor(0), None, m[0, :4]], torch.tensor(3.0), f),
    "one-of-several": lambda x, m, f: aten.index_put(x[0, :, :, 0], [m[2, 1:], torch.tensor([0, 1])], torch.ones(2), f),
    "none": lambda x, m, f: aten.index_put(x[0, :, :, 0], [m[1, 1:], torch.tensor([-1])], torch.ones(1), f),
    "bytes": lambda x, m, f: aten.index_put(x, [torch.tensor(1), m.to(torch.uint8)], torch.tensor(2.0), f),
}


def test_masks_beside_integers(matches_eager):
    def puts(x, m):
        return [put(x, m, flag) for put in BESIDE_A_MASK.values() for flag in (False, True)]

    matches_eager(puts, torch.randn(2, 3, 4, 3), MASK)


def test_a_column_of_the_rows_of_a_mask_is_set(matches_eager):
    def put(x, mask):
        x = x.clone()
        x[mask, 0] = 5.0
        x[mask, 1:3] += 1
        return x

    with pytest.raises(Exception, match="size depends on the values"):  # `+=` reads as many values as the mask has
        matches_eager(put, torch.randn(3, 4), torch.tensor([True, False, True]))

    def written(x, mask):
        x = x.clone()
        x[mask, 0] = 5.0
        x[mask, 1:3] = 7.0
        return x

    matches_eager(written, torch.randn(3, 4), torch.tensor([True, False, True]))


def test_two_masks_are_refused(matches_eager):
    def put(x, mask):
        return aten.index_put(x, [mask, mask], torch.tensor(5.0))

    with pytest.raises(Exception, match="two boolean indices name together depends on the data"):
        matches_eager(put, torch.randn(3, 3), torch.tensor([True, False, True]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_indices_without_dimensions(matches_eager, dtype):
    one, zero, vector = (torch.tensor(i, dtype=dtype) for i in (1, 0, [0]))
    five = torch.tensor(5.0)

    def calls(x):
        row, scalar = x[0], x[0, 0]
        found = [
            aten.index_add(row, 0, one, five.view(1)),
            aten.index_add(x, 0, one, torch.ones(1, 4)), aten.index_add(x, 1, one, torch.ones(3, 1), alpha=2),
            aten.index_add(scalar, 0, zero, five), aten.index_add(scalar, -1, vector, five),
            aten.index_select(x, 1, one), aten.index_select(scalar, 0, zero), aten.index_select(scalar, 0, vector),
            aten.gather(row, 0, one), aten.gather(scalar, 0, zero), aten.gather(scalar, 0, vector),
            aten.scatter(row, 0, one, five), aten.scatter(row, 0, one, 4.0),
            aten.scatter(scalar, 0, zero, five), aten.scatter(scalar, 0, vector, five.view(1)),
            aten.scatter_add(row, 0, one, five), aten.scatter_add(scalar, 0, zero, five),
        ]  # fmt: skip
        if dtype == torch.int64:  # eager takes no other index there
            found += [
                aten.take(x, one),
                aten.index_fill(x, 1, one, 3.0),
                aten.index_fill(scalar, 0, zero, 3.0),
                aten.index_copy(row, 0, one, five),
                aten.index_copy(x, 0, one, torch.ones(1, 4)),
                aten.index_copy(scalar, 0, zero, five),
                aten.index_copy(scalar, 0, vector, five),
            ]
        for reduce in ("sum", "prod", "mean", "amax", "amin"):
            found.append(aten.scatter_reduce(row, 0, one, five, reduce))
            found.append(aten.scatter_reduce(scalar, 0, zero, five, reduce, include_self=False))
        return found

    matches_eager(calls, torch.arange(12.0).view(3, 4))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_repeats_in_a_tensor_whose_sum_is_given(matches_eager, dtype):
    def repeat(x, repeats):
        return (
            torch.repeat_interleave(x, repeats, dim=0, output_size=6),
            torch.repeat_interleave(x, repeats[:2], dim=-1, output_size=3),
            torch.repeat_interleave(x, repeats.repeat(2), output_size=12),
            torch.repeat_interleave(x, repeats[1:2], dim=1, output_size=4),
            torch.repeat_interleave(x[0, 0], repeats[1], output_size=2),
            aten.repeat_interleave(repeats * 0, output_size=0),
            aten.repeat_interleave(repeats, output_size=6),
        )

    matches_eager(repeat, torch.arange(6.0).view(3, 2), torch.tensor([1, 2, 3], dtype=dtype))
