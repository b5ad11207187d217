"""Options: what is accepted, what is refused and how."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from tpu_dynamo import OptionError, Options


def test_nothing_given_is_the_defaults():
    assert Options.parse(None) == Options() == Options.parse({}, mode="default")


def test_values_are_brought_to_their_types():
    assert Options.parse({"dump_dir": "somewhere"}).dump_dir == Path("somewhere")


@pytest.mark.parametrize(("wrong", "right"), [("tarjet", "target"), ("dumpdir", "dump_dir"), ("fall_back", "fallback")])
def test_an_unknown_key_names_the_closest(wrong, right):
    with pytest.raises(OptionError, match=f"unknown option '{wrong}'; did you mean '{right}'"):
        Options.parse({wrong: 1})


def test_every_wrong_value_is_named():
    with pytest.raises(OptionError, match=r"fallback='x'.*transfer='y'"):
        Options.parse({"fallback": "x", "transfer": "y"})


def test_flags_become_sorted_pairs_of_text():
    given = {"xla_b": True, "xla_a": 3, "xla_c": "x,y", "xla_d": 0.5}
    assert Options.parse({"xla_flags": given}).xla_flags == (
        ("xla_a", "3"), ("xla_b", "True"), ("xla_c", "x,y"), ("xla_d", "0.5"),
    )  # fmt: skip
    assert Options.parse({"xla_flags": {"xla_b": "True"}}) == Options.parse({"xla_flags": {"xla_b": True}})


@pytest.mark.parametrize("given", ["--xla_a=1", 3, {"xla_a": None}, {1: 2}, {"xla_a": [1]}])
def test_flags_of_the_wrong_kind_are_refused(given):
    with pytest.raises(OptionError, match="xla_flags"):
        Options.parse({"xla_flags": given})


def test_options_cannot_change():
    with pytest.raises(FrozenInstanceError):
        Options().target = "cpu"


def test_every_field_is_described_and_says_whether_it_is_part_of_the_key():
    for field in fields(Options):
        assert f"{field.name}:" in Options.__doc__
        assert set(field.metadata) <= {"unkeyed"}
