"""Groups of ranks: those that act at once, and what a program spans."""

from __future__ import annotations

import pytest

from tpu_dynamo.distributed.groups import IrregularGroups, as_text, siblings, spanned


@pytest.mark.parametrize(
    "group, size, wanted",
    [
        ((0, 1), 4, [(0, 1), (2, 3)]),
        ((1, 3), 4, [(0, 2), (1, 3)]),
        ((2, 3, 6, 7), 8, [(0, 1, 4, 5), (2, 3, 6, 7)]),  # two dimensions of three, flattened
        ((3, 2), 4, [(1, 0), (3, 2)]),
        ((2,), 3, [(0,), (1,), (2,)]),
    ],
)
def test_siblings_of_a_dimension_of_a_mesh(group, size, wanted):
    assert siblings(group, size) == wanted


def test_siblings_of_a_mesh_that_is_known_are_its_own():
    rows = [(0, 3), (1, 2)]
    assert siblings((1, 2), 4, [[(0, 1), (2, 3)], rows]) == rows


@pytest.mark.parametrize("group, size", [((0, 1), 3), ((0, 1, 3), 6), ((1, 2), 4)])
def test_irregular_groups_are_refused(group, size):
    with pytest.raises(IrregularGroups, match="one DeviceMesh over all ranks"):
        siblings(group, size)


def test_a_program_spans_the_ranks_that_its_groups_connect():
    rows, columns = [(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert spanned([rows], 2) == (2, 3)
    assert spanned([rows, columns], 5) == (4, 5, 6, 7)
    assert spanned([], 3) == (3,)


def test_groups_are_written_by_positions_so_that_equal_programs_have_equal_texts():
    rows = [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert as_text(rows, (0, 1, 2, 3)) == as_text(rows, (4, 5, 6, 7)) == "0,1|2,3"
    assert as_text([(5, 4)], (4, 5)) == "1,0"
