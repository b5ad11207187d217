"""The record of which operators a test file lowers holds what passing tests lowered, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.record_operators import TESTS, Recorder, merged, recorded
from tpu_dynamo_lowering import all_lowerings

aten = torch.ops.aten
HERE = "opinfo/test_record_operators.py"


def watched(recorder: Recorder, function, *args, failure: BaseException | None = None) -> None:
    """Run a compiled function as a test of this file, which fails with `failure` if there is one."""
    call = recorder.pytest_runtest_call(SimpleNamespace(path=TESTS / HERE))
    next(call)
    torch.compile(function, backend="tpu", fullgraph=True)(*args)
    if failure is None:
        with pytest.raises(StopIteration):
            call.send(None)
    else:
        with pytest.raises(type(failure)):
            call.throw(failure)


def test_operators_inside_of_decompositions_are_recorded():
    recorder = Recorder(SimpleNamespace())
    watched(recorder, lambda x: aten.special_xlog1py(x, x), torch.rand(3))
    found = recorder.found[HERE]
    assert {"aten.special_xlog1py.default", "aten.log1p.default", "aten.mul.Tensor"} <= found
    assert "aten.log.default" not in found


def test_what_a_failing_test_lowered_is_not_recorded():
    recorder = Recorder(SimpleNamespace())
    watched(recorder, torch.exp, torch.rand(3), failure=AssertionError("values differ"))
    watched(recorder, torch.sin, torch.rand(3))
    assert recorder.found[HERE] == {"aten.sin.default"}


def test_nothing_is_recorded_after_the_test():
    recorder = Recorder(SimpleNamespace())
    watched(recorder, torch.sin, torch.rand(3))
    torch.compile(torch.cos, backend="tpu")(torch.rand(3))
    assert recorder.found[HERE] == {"aten.sin.default"}


def test_operators_of_other_libraries_have_the_names_that_the_page_lists():
    recorder = Recorder(SimpleNamespace())
    query = torch.rand(1, 2, 8, 4, device="tpu")
    watched(recorder, torch.nn.functional.scaled_dot_product_attention, query, query, query)
    assert "tpu_dynamo::attention" in recorder.found[HERE]


def test_a_run_replaces_the_lists_of_its_files_alone():
    old = {HERE: ["aten.cos.default"], "lowering/test_table.py": ["aten.sin.default"], "gone/test_gone.py": ["x"]}
    new = {HERE: {"aten.tan.default", "aten.exp.default"}, "lowering/test_copies.py": set()}
    assert merged(old, new) == {
        "lowering/test_table.py": ["aten.sin.default"],
        HERE: ["aten.exp.default", "aten.tan.default"],
    }


def test_processes_hand_over_what_they_recorded():
    recorder = Recorder(SimpleNamespace())
    recorder.found[HERE].add("aten.sin.default")
    recorder.pytest_testnodedown(SimpleNamespace(workeroutput={"operators": {HERE: ["aten.cos.default"]}}))
    recorder.pytest_testnodedown(SimpleNamespace())  # one that broke down
    assert recorder.found == {HERE: {"aten.sin.default", "aten.cos.default"}}


def test_the_record_names_files_and_operators_that_exist():
    record = recorded()
    assert [file for file in record if not (TESTS / file).exists()] == [], "run their successors with the plugin"
    known = {str(lowering.overload) for lowering in all_lowerings()}
    assert {operator for operators in record.values() for operator in operators} <= known
