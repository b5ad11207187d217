"""Moments belong to what is innermost, are shared by what runs beside each other, and to the first layer that has one."""

from __future__ import annotations

import pytest

from tpu_dynamo.profiling.sweep import Interval, innermost, layered, share


def told(intervals):
    return [(each.start, each.end, each.about) for each in intervals]


def test_what_lies_inside_takes_its_time_from_what_contains_it():
    lane = [Interval(0, 10, "loop"), Interval(2, 4, "body"), Interval(4, 5, "body"), Interval(12, 13, "after")]
    assert told(innermost(lane)) == [
        (0, 2, "loop"), (2, 4, "body"), (4, 5, "body"), (5, 10, "loop"), (12, 13, "after"),
    ]  # fmt: skip


def test_three_levels_and_an_overlap():
    lane = [Interval(0, 10, "a"), Interval(1, 9, "b"), Interval(2, 3, "c"), Interval(8, 12, "d")]
    pieces = innermost(lane)
    assert told(pieces) == [(0, 1, "a"), (1, 2, "b"), (2, 3, "c"), (3, 8, "b"), (8, 9, "d"), (9, 10, "a")]


@pytest.mark.parametrize("length", [0, 3])
def test_lanes_beside_each_other_share_their_time(length):
    shares = share([[Interval(0, 4, "x"), Interval(6, 8, "x")], [Interval(2, 2 + length, "y")] if length else []])
    expected = {"x": 2 + 1 + 2, "y": 1 + 1} if length else {"x": 6}
    assert dict(shares.times) == expected
    assert sum(each.length for each in shares.busy) == sum(expected.values())


def test_the_first_layer_that_has_an_interval_has_the_moment():
    layers = [[Interval(4, 5, "run")], [Interval(1, 7, "region"), Interval(2, 3, "inner")], [Interval(-5, 20, "all")]]
    found = told(layered(0, 10, layers))
    assert found == [
        (0, 1, "all"), (1, 2, "region"), (2, 3, "inner"), (3, 4, "region"), (4, 5, "run"), (5, 7, "region"), (7, 10, "all"),
    ]  # fmt: skip


def test_moments_of_no_layer_are_nothings():
    assert told(layered(0, 3, [[Interval(1, 2, "x")]])) == [(0, 1, None), (1, 2, "x"), (2, 3, None)]


def test_times_since_the_epoch_keep_their_nanoseconds():
    begin = 1_795_765_749_246_049_157
    lane = [Interval(begin + 100 * i, begin + 100 * i + 99, "x") for i in range(1000)]
    assert share([innermost(lane)]).times["x"] == 99_000
    assert sum(each.length for each in layered(begin, begin + 100_000, [lane]) if each.about) == 99_000
