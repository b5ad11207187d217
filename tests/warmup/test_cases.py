"""Manifests taken apart into cases, and the orders of sizes that a process may see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpu_dynamo.warmup.cases import Case, cases_of, chosen
from tpu_dynamo.warmup.ledger import Ledger
from tpu_dynamo.warmup.manifest import Manifest

X = [{"shape": ["batch", 16]}]


def expanded(model: dict[str, Any], defaults: dict[str, Any] | None = None, **how: Any) -> list[Case]:
    data = {"schema": 1, "defaults": defaults or {}, "model": {"one": {"factory": "m:f", **model}}}
    return cases_of(Manifest.model_validate(data), Path("/somewhere/manifest.toml"), **how)


def test_targets_modes_and_listed_sizes_are_cases_of_their_own():
    found = expanded(
        {"inputs": X, "dims": {"batch": [1, 8]}, "modes": ["inference", "train"]}, {"targets": ["cpu", "v5e:2x2"]}
    )
    assert [case.name for case in found] == [
        f"one/{mode}/batch={batch}/{target}"
        for target in ("cpu", "v5e:2x2") for mode in ("inference", "train") for batch in (1, 8)
    ]  # fmt: skip
    assert len({case.key for case in found}) == 8
    assert found[0].folders == ("/somewhere",)


def test_the_command_line_replaces_targets_and_modes():
    found = expanded(
        {"inputs": [], "modes": ["train"]}, {"targets": ["cpu"]}, targets=["v4:2x2x1"], modes=["inference"]
    )
    assert [case.name for case in found] == ["one/inference/v4:2x2x1"]


def test_defaults_hold_for_what_a_model_does_not_say():
    defaults = {"init": "random", "timeout": 5, "options": {"a": 1, "b": 2}, "autocast": "bfloat16"}
    (case,) = expanded({"inputs": [], "init": "real", "options": {"b": 3}}, defaults)
    assert (case.init, case.timeout, case.autocast) == ("real", 5, "bfloat16")
    assert case.options == {"a": 1, "b": 3}
    assert case.target == "auto"


def test_a_case_crosses_into_a_worker_as_json():
    for case in expanded({"inputs": X, "dims": {"batch": {"buckets": [2, 4]}}}) + expanded({"inputs": {"a": X[0], "b": 1},
                         "dims": {"batch": 3}, "args": [1, "x"]}):  # fmt: skip
        again = Case.from_dict(json.loads(json.dumps(case.as_dict())))
        assert again.key == case.key
        assert (again.walks, again.folders, again.args) == (case.walks, case.folders, case.args)


def test_only_takes_models_and_patterns_of_cases():
    found = expanded({"inputs": X, "dims": {"batch": [1, 8]}, "modes": ["inference", "train"]})
    assert chosen(found, ["one"]) == found
    assert [case.mode for case in chosen(found, ["one/train/*"])] == ["train", "train"]
    assert chosen(found, ["two"]) == []


@given(
    st.dictionaries(st.sampled_from("ab"), st.lists(st.integers(1, 9), min_size=2, max_size=3, unique=True), min_size=1)
)
def test_walks_begin_with_every_size_and_change_every_part_of_the_dimensions(dims):
    inputs = [{"shape": list(dims)}]
    (case,) = expanded({"inputs": inputs, "dims": {name: {"buckets": sizes} for name, sizes in dims.items()}})
    firsts = {tuple(walk[0].items()) for walk in case.walks if len(walk) == 1}
    count = 1
    for sizes in dims.values():
        count *= len(sizes)
    assert len(firsts) == count
    for walk in case.walks:
        if len(walk) > 1:
            moving = {name for name in dims if walk[0][name] != walk[1][name]}
            assert walk[-1] == walk[0]
            seen = {tuple(sizes[name] for name in sorted(moving)) for sizes in walk}
            whole = 1
            for name in moving:
                whole *= len(dims[name])
            assert len(seen) == whole
    # Each part of the dimensions changes in some walk, with each choice of the others.
    parts = [{n for n in dims if walk[0][n] != walk[1][n]} for walk in case.walks if len(walk) > 1]
    assert {frozenset(part) for part in parts} == {
        frozenset(part) for part in ([{name} for name in dims] + ([set(dims)] if len(dims) > 1 else []))
    }


LENGTHS = {"inputs": {"x": {"shape": ["batch", "length", 4]}}, "options": {"buckets": "pow2"}}


def test_each_bucket_is_a_case_that_marks_what_changes():
    dims = {"batch": [1, 8], "length": {"min": 5, "max": 40}}
    found = expanded({**LENGTHS, "dims": dims})
    assert [case.name.split("/")[2] for case in found] == [
        f"batch={batch},length=..{size}" for batch in (1, 8) for size in (8, 16, 32, 40)
    ]
    # Other than the batch, which Dynamo would else take for the same size.
    assert [case.walks for case in found][4] == (({"batch": 8, "length": 7},),)
    assert found[0].marked == {"length": {"min": 5, "max": 40}}
    again = Case.from_dict(json.loads(json.dumps(found[0].as_dict())))
    assert (again.key, again.marked) == (found[0].key, found[0].marked)


def test_buckets_of_several_dimensions_are_chosen_by_name_or_place():
    dims = {"batch": {"max": 6}, "length": {"buckets": [1, 64, 100]}}
    named = {"x[1]": {"multiple": 64}, "x[0]": "pow2"}
    for inputs in (LENGTHS["inputs"], list(LENGTHS["inputs"].values())):
        found = expanded({"inputs": inputs, "dims": dims, "options": {"buckets": named}})
        assert [tuple(case.walks[0][0].values()) for case in found] == [
            (batch, length) for batch in (2, 4, 6) for length in (64, 128)
        ]
    found = expanded({**LENGTHS, "dims": dims, "options": {"buckets": {"x[0]": "pow2"}}})
    assert {case.walks[0][0]["length"] for case in found} == {64, 100}


def test_all_sizes_are_symbols_where_the_job_says_dynamic_and_numbers_where_it_says_not():
    dims = {"batch": {"max": 4}, "length": 3}
    found = expanded({**LENGTHS, "dims": dims, "dynamic": True})
    assert [(case.name, case.marked) for case in found] == [
        ("one/inference/batch=..2,length=3/auto", {}), ("one/inference/batch=..4,length=3/auto", {})
    ]  # fmt: skip
    assert [case.marked for case in expanded({**LENGTHS, "dims": dims, "dynamic": False})] == [{}] * 3


def test_buckets_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="pow3"):
        expanded({**LENGTHS, "options": {"buckets": "pow3"}, "dims": {"batch": 1, "length": 2}})


def test_sizes_that_do_not_change_in_a_process_have_no_walks():
    table = {"batch": {"buckets": [2, 4], "dynamic": False}}
    assert [case.walks for case in expanded({"inputs": X, "dims": table})] == [(({"batch": 2},),), (({"batch": 4},),)]
    assert len(expanded({"inputs": X, "dims": {"batch": {"buckets": [2, 4]}}, "dynamic": False})) == 2
    (case,) = expanded({"inputs": X, "dims": {"batch": {"buckets": [2, 4]}}, "dynamic": True})
    assert case.walks == (({"batch": 2}, {"batch": 4}),)


@pytest.fixture
def case() -> Case:
    return expanded({"inputs": []})[0]


def outcome(*entries: tuple[str, str], state: str = "made") -> dict[str, Any]:
    return {"state": state, "entries": list(entries)}


def test_what_is_done_is_known_to_later_runs_while_its_entries_are_there(tmp_path, case):
    entry = tmp_path / "entries" / "program" / "ab" / "abc"
    entry.parent.mkdir(parents=True)
    entry.touch()
    Ledger(tmp_path).note(case, outcome(("program", "abc")), 3.0)
    assert Ledger(tmp_path).is_done(case)
    assert Ledger(tmp_path).seconds(case) == 3.0
    entry.unlink()
    assert not Ledger(tmp_path).is_done(case)


def test_what_was_not_pushed_is_not_done_for_a_run_that_pushes(tmp_path, case):
    Ledger(tmp_path).note(case, outcome(), 1.0)
    assert not Ledger(tmp_path, "file:///there").is_done(case)
    Ledger(tmp_path, "file:///there").note(case, outcome(), 1.0)
    assert Ledger(tmp_path, "file:///there").is_done(case)
    assert Ledger(tmp_path).is_done(case)


def test_failures_are_not_done_and_what_was_found_tells_no_time(tmp_path, case):
    ledger = Ledger(tmp_path)
    ledger.note(case, outcome(state="failed"), 3.0)
    assert not ledger.is_done(case)
    ledger.note(case, outcome(state="found"), 0.1)
    assert ledger.is_done(case)
    assert ledger.seconds(case) is None


def test_a_ledger_that_was_cut_off_anywhere_still_counts_what_is_whole(tmp_path, case):
    ledger = Ledger(tmp_path)
    ledger.note(case, outcome(), 1.0)
    file = tmp_path / "warmup" / "cases.jsonl"
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole + whole[:size])
        torn = Ledger(tmp_path)
        assert torn.is_done(case)
        torn.note(case, outcome(), 2.0)
        assert Ledger(tmp_path).seconds(case) == 2.0


def test_another_version_of_what_makes_programs_is_another_case(tmp_path, case, monkeypatch):
    Ledger(tmp_path).note(case, outcome(), 1.0)
    monkeypatch.setattr("tpu_dynamo.warmup.ledger.versions", lambda: {"torch": "9"})
    assert not Ledger(tmp_path).is_done(case)
