"""Differences in words."""

from __future__ import annotations

import pytest

from tpu_dynamo.cache.differences import differences, first_difference, input_differences

PARTS = [
    pytest.param(
        {"versions": {"libtpu": "0.0.51"}},
        {"versions": {"libtpu": "0.0.52"}},
        ["libtpu 0.0.51 -> 0.0.52"],
        id="version",
    ),
    pytest.param({"XLA_FLAGS": []}, {"XLA_FLAGS": ["--xla_a=1"]}, ["XLA_FLAGS gained --xla_a=1"], id="flag-gained"),
    pytest.param({}, {"xla_flags": ["xla_a=1"]}, ["xla_flags gained xla_a=1"], id="flags-where-there-were-none"),
    pytest.param({"xla_flags": ["xla_a=1"]}, {}, ["xla_flags lost xla_a=1"], id="flags-no-longer"),
    pytest.param({"XLA_FLAGS": ["--xla_a"]}, {"XLA_FLAGS": []}, ["XLA_FLAGS lost --xla_a"], id="flag-lost"),
    pytest.param({"f": ["a", "b"]}, {"f": ["b", "a"]}, ["f came in another order"], id="order"),
    pytest.param(
        {"options": {"partitioner": "min_cut"}},
        {"options": {"partitioner": "default"}},
        ["options: partitioner min_cut -> default"],
        id="option",
    ),
    pytest.param({}, {"jaxlib": "1"}, ["jaxlib nothing -> 1"], id="a-new-part"),
    pytest.param({"a": {"b": [1]}, "c": 1}, {"a": {"b": [1]}, "c": 1}, [], id="equal"),
    pytest.param({"f": [*"ab"]}, {"f": [*"abcdefghijklm"]}, ["f gained c, d, e, f, g, h, i, j and 3 more"], id="many"),
]


@pytest.mark.parametrize(("was", "now", "words"), PARTS)
def test_parts_that_differ_are_named(was, now, words):
    assert differences(was, now) == words


def tensor(*size: int, dtype: str = "float32") -> dict[str, object]:
    stride = [size[1], 1] if len(size) == 2 else [1] * len(size)
    return {"dtype": dtype, "size": list(size), "stride": stride, "device": "cpu"}


INPUTS = [
    pytest.param(tensor(8, 128), tensor(8, 130), ["x.size()[1] was 128, now 130", "x.stride()[0] was 128, now 130"]),
    pytest.param(tensor(8, 2), tensor(8, 2, dtype="bfloat16"), ["x.dtype was float32, now bfloat16"]),
    pytest.param(tensor(8, 2), tensor(8), ["x.ndim was 2, now 1"]),
]


@pytest.mark.parametrize(("was", "now", "words"), INPUTS)
def test_inputs_that_differ_are_named_as_guards_are(was, now, words):
    assert input_differences({"x": was}, {"x": now}) == [f"guard {text}" for text in words]


def test_inputs_that_come_and_go_are_named():
    assert input_differences({"x": tensor(1, 2)}, {"y": tensor(1, 2)}) == ["no input x", "a new input y"]


def test_the_first_operation_that_differs_is_named():
    was, now = "%0 = placeholder\n%1 = aten.relu.default (%0)", "%0 = placeholder\n%1 = aten.gelu.default (%0)"
    assert first_difference(was, now) == (
        "operation 1 of the graph was aten.relu.default (%0), now aten.gelu.default (%0)"
    )
    assert first_difference(was, was) is None
    assert (
        first_difference(was, "%0 = placeholder") == "operation 1 of the graph was aten.relu.default (%0), now nothing"
    )
