"""Codes: each of ours has a page, our exceptions carry one, and `explain` knows torch's too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

import tpu_dynamo
from tests.diagnostics.runs import watch
from tpu_dynamo.diagnostics._torch_compat import words_of
from tpu_dynamo.diagnostics.codes import UnknownCode, explanation, own_codes
from tpu_dynamo.diagnostics.report_sources import read_report
from tpu_dynamo_lowering import Unsupported, UnsupportedInput, UnsupportedOp

PAGES = Path(__file__).parents[2] / "docs" / "errors"

RAISED = [
    UnsupportedOp([Unsupported("op", "why", "hint", None)]),
    UnsupportedInput("input x", "why"),
    UnsupportedInput("input x", "why", code="TPU301"),
    tpu_dynamo.CompilationFailed("XLA", "why", None, Path("repro")),
    tpu_dynamo.DoesNotFit("v5e:2x2", 2**35, 2**34, "why"),
    tpu_dynamo.NeedsValues("aten.item", None),
    tpu_dynamo.CompileOnlyTarget("v5e:2x2"),
    tpu_dynamo.UnsupportedOptimizer(torch.optim.SGD([torch.zeros(1)]), "why", "hint"),
    tpu_dynamo.NotALoss("why"),
    tpu_dynamo.OptionError("why"),
    tpu_dynamo.UnknownTarget("there"),
    tpu_dynamo.PlatformUnavailable("tpu", "why", "hint"),
    tpu_dynamo.DeviceNameTaken("other"),
    tpu_dynamo.DeviceOutOfMemory("RESOURCE_EXHAUSTED: why", 2**30, 2**34),
]


def test_each_code_has_a_page_with_its_title_and_each_page_a_code():
    assert {page.stem for page in PAGES.glob("*.md")} == set(own_codes())
    for code, title in own_codes().items():
        assert explanation(code).startswith(f"# {code}: {title}\n"), code
        assert "## What to do" in explanation(code), code


@pytest.mark.parametrize("error", RAISED, ids=lambda e: f"{type(e).__name__}-{e.code}")
def test_our_exceptions_carry_a_code_and_say_where_it_is_explained(error):
    assert error.code in own_codes()
    assert str(error).endswith(f"{error.code}: `tpu-dynamo explain {error.code}` says more")


def test_torchs_codes_are_explained_with_our_fix():
    text = explanation("gb0124")
    assert text.startswith("# GB0124: Unsupported Tensor.item() call")
    assert "scale = x.sum()" in text
    assert "gb0124.html" in text


def test_what_torchs_registry_has_as_python_source_is_shown_as_text():
    text = explanation("GB0170")
    assert text.startswith(
        "# GB0170: Data-dependent branching\n\nDetected data-dependent branching (e.g. `if my_tensor.sum() > 0:`). "
        "Dynamo does not support tracing dynamic control flow.\n\n* Use `torch.cond`"
    )
    assert "trace_info" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("Move it out of the graph.", "Move it out of the graph.", id="words"),
        pytest.param("tensor.is_inference() is not supported", "tensor.is_inference() is not supported", id="operator"),
        pytest.param("_explanation", "", id="name"),
        pytest.param(
            '"Failed to trace: " + f"{self.fn} is no function"', "Failed to trace: {self.fn} is no function", id="sum"
        ),
        pytest.param('make_error_message("no such attribute")', "no such attribute", id="call"),
    ],
)
def test_the_words_of_a_registered_text(text, words):
    assert words_of(text) == words


def test_a_code_that_is_none_says_so():
    with pytest.raises(UnknownCode, match="no code 'TPU999'"):
        explanation("TPU999")


@torch.library.custom_op("tpu_dynamo_tests::reported", mutates_args=())
def reported(x: torch.Tensor) -> torch.Tensor:
    """An operator that nothing lowers."""
    return x.clone()


@reported.register_fake
def _(x):
    return torch.empty_like(x)


def model(x):
    y = x + 1
    return reported(y) * 2


def test_what_the_backend_refuses_is_in_the_report_with_its_line():
    torch._dynamo.reset()
    with tpu_dynamo.diagnose() as report, pytest.raises(BackendCompilerFailed):
        torch.compile(model, backend="tpu")(torch.ones(3))
    (found,) = report.report.unsupported
    assert (found.code, found.operation) == ("TPU101", "tpu_dynamo_tests.reported.default(float32[3])")
    assert found.place.text == "return reported(y) * 2"
    assert found.place.function == "model"
    assert found.hint
    assert not report.report.failures


def test_a_fallback_is_in_the_report_with_its_line():
    torch._dynamo.reset()
    with tpu_dynamo.diagnose() as report:
        torch.compile(model, backend="tpu", options={"fallback": "eager"})(torch.ones(3))
    (fallback,) = report.report.fallbacks
    assert "tpu_dynamo_tests.reported" in fallback.reason
    (found,) = report.report.unsupported
    assert found.place.text == "return reported(y) * 2"


def test_an_input_that_is_refused_is_in_the_report():
    torch._dynamo.reset()
    with tpu_dynamo.diagnose() as report, pytest.raises(BackendCompilerFailed):
        torch.compile(lambda weight: weight + 1, backend="tpu")(torch.empty(2, device="meta"))
    (found,) = report.report.unsupported
    assert found.code == "TPU102"
    assert "L['weight']" in found.operation
    assert "to_empty" in found.hint


@pytest.mark.parametrize(
    ("function", "args", "wanted"),
    [
        pytest.param(model, (torch.ones(3),), ("TPU101", "tpu_dynamo_tests.reported.default(float32[3])"), id="op"),
        pytest.param(lambda w: w + 1, (torch.empty(2, device="meta"),), ("TPU102", "input L['w']"), id="input"),
    ],
)
def test_a_trace_of_another_process_tells_what_the_backend_refuses(function, args, wanted, tmp_path):
    def refused():
        with pytest.raises(BackendCompilerFailed):
            torch.compile(function, backend="tpu")(*args)

    watched = watch(refused)
    (tmp_path / "trace.log").write_text(watched.trace)
    read = read_report(tmp_path)
    (found,) = read.unsupported
    assert (found.code, found.operation, found.count) == (*wanted, 1)
    assert not read.failures
    assert read.unsupported == watched.report.unsupported


def test_another_error_of_a_backend_is_a_failure_in_its_own_words():
    def broken(graph_module, example_inputs):
        raise KeyError("of the backend")

    def work():
        with pytest.raises(BackendCompilerFailed):
            torch.compile(lambda x: x + 1, backend=broken)(torch.ones(3))

    (found,) = watch(work).report.failures
    assert (found.kind, found.message) == ("KeyError", "'of the backend'")


def test_stages_of_the_backend_and_lookups_in_the_cache_are_in_the_report():
    torch._dynamo.reset()
    tpu_dynamo.reset()
    with tpu_dynamo.diagnose() as report:
        torch.compile(lambda x: x.sin() + 1, backend="tpu")(torch.ones(3))
    (compiled,) = report.report.compiles
    assert {"dynamo", "lowering", "xla"} <= {stage.name for stage in compiled.stages}
    assert sum(stage.seconds for stage in compiled.stages) <= compiled.seconds * 1.05
    looked = {(c.level, c.outcome, c.count) for c in report.report.cache}
    assert looked == {("signature", "miss", 1), ("memory", "miss", 1), ("disk", "miss", 1)}


def test_forms_of_graphs_are_not_written_for_the_report(monkeypatch, tmp_path):
    from tpu_dynamo_runtime import Client

    written = []
    monkeypatch.setattr(Client, "optimised_hlo", lambda self, executable: written.append(executable) or "HloModule")
    with tpu_dynamo.diagnose():
        torch.compile(lambda x: x.cos() + 1, backend="tpu")(torch.ones(3))
    assert not written
    torch.compile(lambda x: x.cos() + 2, backend="tpu", options={"dump_dir": tmp_path})(torch.ones(3))
    assert len(written) == 1, "a dump writes it in the same way"


def test_the_report_is_ready_behind_the_block():
    with tpu_dynamo.diagnose() as report, pytest.raises(RuntimeError, match="is left"):
        _ = report.breaks
    assert str(report) == "Nothing was compiled.\n"
