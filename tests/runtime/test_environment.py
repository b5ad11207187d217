"""The compile environment: flags that change executables are parts of it, flags that only tell are none."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpu_dynamo_runtime import environment
from tpu_dynamo_runtime.environment import compile_environment, flags


def cpu() -> environment.Environment:
    return compile_environment("cpu", "cpu", "cpu", 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("  --xla_b=2 --xla_a=1 ", ["--xla_a=1", "--xla_b=2"]),
        ("--xla_dump_to=/somewhere --xla_dump_hlo_as_text --xla_a", ["--xla_a"]),
        ("--xla_a=1 --xla_b --xla_a=2", ["--xla_a=1", "--xla_a=2", "--xla_b"]),
        ("--xla_a='x y'", ["--xla_a=x y"]),
        ("--xla_a='x", ["--xla_a='x"]),
    ],
)
def test_flags_are_sorted_by_name_and_those_that_only_tell_are_left_out(value, expected):
    assert flags(value) == expected


def test_a_file_of_flags_is_read(tmp_path):
    (tmp_path / "flags").write_text("--xla_a=1\n--xla_dump_to=x\n")
    assert flags(str(tmp_path / "flags")) == ["--xla_a=1"]
    assert flags(str(tmp_path / "none")) == [str(tmp_path / "none")]


NAMES = st.sampled_from(["--xla_a", "--xla_b", "--xla_cpu_max_isa"])
FLAGS = st.lists(st.tuples(NAMES, st.integers(0, 2)), max_size=4)


@given(FLAGS, FLAGS)
def test_flags_with_other_effects_are_other_parts(one, other):
    def text(pairs: list[tuple[str, int]]) -> str:
        return " ".join(f"{name}={value}" for name, value in pairs)

    def effect(pairs: list[tuple[str, int]]) -> dict[str, int]:
        return dict(pairs)  # the last of a name counts

    if effect(one) != effect(other):
        assert flags(text(one)) != flags(text(other))


def test_what_an_executable_of_the_cpu_depends_on_is_in_it(monkeypatch):
    plain = cpu()
    assert plain == cpu()
    assert {"jaxlib", "machine", "CPU", "CPU features", "CPUs", "XLA_FLAGS"} < plain.keys()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    assert cpu() != plain
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/somewhere")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_x")
    assert cpu() == {**plain, "XLA_FLAGS": []}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 4, 5, 6})
    assert cpu()["CPUs"] == "7"


def test_a_tpu_has_its_plugin_and_its_arguments_and_nothing_of_the_cpu(monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_x")
    parts = compile_environment("tpu", "build 1", "TPU v5e", 4)
    assert parts["LIBTPU_INIT_ARGS"] == ["--xla_tpu_x"]
    assert "CPU features" not in parts
    assert parts != compile_environment("tpu", "build 2", "TPU v5e", 4)
    assert parts != compile_environment("tpu", "build 1", "TPU v5p", 4)
    assert parts != compile_environment("tpu", "build 1", "TPU v5e", 8)
