"""Entries that are warmed without weights or data are those that a plain `torch.compile(model, backend="tpu")` asks for."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.warmup import warm_models
from tpu_dynamo.session import session
from tpu_dynamo.warmup.cases import Case, cases_of
from tpu_dynamo.warmup.decorator import cases_in
from tpu_dynamo.warmup.manifest import Manifest
from tpu_dynamo.warmup.outcome import CaseOutcome
from tpu_dynamo.warmup.run_case import run_case
from tpu_dynamo.warmup.target_compilers import makers
from tpu_dynamo_runtime import client, plugin_installed
from tpu_dynamo_runtime.store import entries, latest, open_store

needs_libtpu = pytest.mark.skipif(
    not plugin_installed("tpu"), reason="libtpu is not installed: pip install 'tpu-dynamo[tpu]'"
)


def forget() -> None:
    """Forget what a fresh process would not have, but for clients."""
    torch._dynamo.reset()
    session().release()
    session().close_caches()
    tpu_dynamo.reset_stats()


def cases(**model: Any) -> list[Case]:
    """The cases of a manifest with one model."""
    said = {"factory": "tests.warmup.warm_models:mlp", "targets": ["cpu"], **model}
    return cases_of(Manifest.model_validate({"schema": 1, "model": {"one": said}}), Path("manifest.toml"))


def warm(*todo: Case, **how: Any) -> list[CaseOutcome]:
    with makers() as opened:
        outcomes = [run_case(case, opened, lambda stage: None, **how) for case in todo]
    forget()
    return outcomes


def made() -> tuple[int, int]:
    """Return the counts of lowered graphs and of compiled programs."""
    stats = tpu_dynamo.stats()
    return stats.lowerings, stats.xla_compiles


X = {"shape": [3, 16]}


def test_a_plain_run_finds_what_was_warmed_without_weights():
    (outcome,) = warm(*cases(inputs=[X]))
    assert (outcome.state, outcome.lowerings, outcome.xla_compiles) == ("made", 1, 1)
    assert [graph["role"] for graph in outcome.graphs] == ["inference"]
    model = warm_models.Mlp().eval()
    x = torch.randn(3, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="tpu")(x), model(x))
    assert made() == (0, 0)


def test_a_plain_training_run_finds_forward_and_backward_whatever_its_loss():
    (outcome,) = warm(*cases(inputs={"x": X}, modes=["train"]))
    assert [graph["role"] for graph in outcome.graphs] == ["forward", "backward"]
    compiled = torch.compile(warm_models.Mlp().train(), backend="tpu")
    (compiled(x=torch.randn(3, 16)).exp().mean() * 3).backward()
    assert tpu_dynamo.stats().graphs == {"forward": 1, "backward": 1}
    assert made() == (0, 0)


def test_every_order_of_changing_sizes_is_warm():
    (case,) = cases(inputs=[{"shape": ["n", 16]}], dims={"n": {"buckets": [1, 4, 6]}}, modes=["train"])
    (outcome,) = warm(case)
    assert outcome.state == "made"
    for order in itertools.permutations((1, 4, 6)):
        forget()
        compiled = torch.compile(warm_models.Mlp(), backend="tpu")
        for size in (*order, order[0]):
            compiled(torch.randn(size, 16)).sum().backward()
        assert made() == (0, 0), order


def test_buckets_are_warm_for_forward_and_backward_whatever_length_comes(monkeypatch):
    said = {
        "inputs": [{"shape": ["n", "m", 16]}], "dims": {"n": 3, "m": {"min": 2, "max": 12}}, "modes": ["train"],
        "options": {"buckets": "pow2", "forbid_compile": True},
    }  # fmt: skip
    todo = cases(**said)
    outcomes = warm(*todo)
    assert [(outcome.state, outcome.lowerings) for outcome in outcomes] == [("made", 2)] * 4
    assert [outcome.state for outcome in warm(*todo, checking=True)] == ["found"] * 4
    compiled = torch.compile(warm_models.Mlp(), backend="tpu", options={"buckets": "pow2", "forbid_compile": True})
    for size in (7, 3, 12, 9, 2):
        x = torch.randn(3, size, 16)
        torch._dynamo.mark_dynamic(x, 1, min=2, max=12)
        compiled(x).sum().backward()
    assert made() == (0, 0)
    x = torch.randn(5, 3, 16)
    torch._dynamo.mark_dynamic(x, 1, min=2, max=12)
    with pytest.raises(Exception, match="TPU402"):
        compiled(x)


def test_buckets_of_all_dimensions_are_warm_where_all_are_symbols():
    todo = cases(
        inputs=[{"shape": ["n", "m", 16]}], dims={"n": {"min": 2, "max": 4}, "m": [6]}, dynamic=True,
        options={"buckets": {"multiple": 4}},
    )  # fmt: skip
    assert [outcome.state for outcome in warm(*todo)] == ["made"]
    options: Any = {"buckets": {"multiple": 4}}
    compiled = torch.compile(warm_models.Mlp().eval(), backend="tpu", dynamic=True, options=options)
    with torch.no_grad(), tpu_dynamo.forbid_compile():
        for shape in ((2, 6, 16), (4, 8, 16)):
            compiled(torch.randn(shape))


def test_a_graph_without_a_proof_is_named_and_compiled_at_the_size_of_its_case():
    (case,) = cases(
        factory="tests.warmup.warm_models:spectrum", inputs=[{"shape": ["n", 4]}], dims={"n": {"buckets": [8]}},
        options={"buckets": [8]},
    )  # fmt: skip
    (outcome,) = warm(case)
    assert (outcome.state, outcome.lowerings) == ("made", 1), outcome.why
    assert any("_fft_r2c" in note and "each size must be compiled" in note for note in outcome.notes)


def test_sizes_that_are_all_symbolic_from_the_start_are_warm():
    (case,) = cases(inputs=[{"shape": ["n", 16]}], dims={"n": {"buckets": [4, 6]}}, dynamic=True)
    warm(case)
    compiled = torch.compile(warm_models.Mlp().eval(), backend="tpu", dynamic=True)
    with torch.no_grad():
        compiled(torch.randn(6, 16))
        compiled(torch.randn(4, 16))
    assert made() == (0, 0)


def test_autocast_dtypes_and_options_are_those_of_the_run():
    (case,) = cases(
        inputs=[{"shape": [3, 16], "dtype": "bfloat16"}], dtype="bfloat16", autocast="float16",
        options={"partitioner": "default"}, modes=["train"], module_mode="eval",
    )  # fmt: skip
    warm(case)
    model = warm_models.Mlp().to(torch.bfloat16).eval()
    compiled = torch.compile(model, backend="tpu", options={"partitioner": "default"})
    with torch.autocast("cpu", dtype=torch.float16):
        output = compiled(torch.randn(3, 16, dtype=torch.bfloat16))
    output.sum().backward()
    assert output.dtype == torch.float16
    assert made() == (0, 0)


def test_frozen_parameters_are_those_of_the_run():
    (case,) = cases(inputs=[{"shape": ["n", 16]}], dims={"n": {"buckets": [3, 5]}}, options={"freeze": True})
    (outcome,) = warm(case)
    assert outcome.state == "made", outcome.why
    compiled = torch.compile(warm_models.Mlp().eval(), backend="tpu", options={"freeze": True})
    with torch.no_grad():
        for size in (5, 3, 5):
            compiled(torch.randn(size, 16))
    assert made() == (0, 0)


def test_what_a_factory_sets_for_the_process_holds_for_its_case_alone():
    first, second = cases(factory="tests.warmup.warm_models:precise", inputs=[X]) + cases(inputs=[X])
    assert [outcome.state for outcome in warm(first, second)] == ["made", "made"]
    with torch.no_grad():
        torch.compile(warm_models.Mlp().eval(), backend="tpu")(torch.randn(3, 16))
    assert made() == (0, 0)
    try:
        forget()
        compiled = torch.compile(warm_models.precise().eval(), backend="tpu")
        with torch.no_grad():
            compiled(torch.randn(3, 16))
        assert made() == (0, 0)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_code_that_looks_at_values_is_warmed_by_running_it():
    (case,) = cases(factory="tests.warmup.warm_models:branching", inputs=[X])
    (refused,) = warm(case)
    assert (refused.state, refused.kind) == ("failed", "usage")
    assert 'init = "real"' in refused.why
    assert "warm_models.py" in refused.why
    (outcome,) = warm(dataclasses.replace(case, init="real"))
    assert outcome.state == "made"
    assert len(outcome.graphs) == 2
    with torch.no_grad():
        torch.compile(warm_models.branching().eval(), backend="tpu")(torch.randn(3, 16))
    assert made() == (0, 0)


def test_a_whole_training_step_is_warm():
    (case,) = cases(
        modes=["step"], optimizer="tests.warmup.warm_models:adamw", loss="tests.warmup.warm_models:cross_entropy",
        targets_of_loss=1, inputs=[X, {"shape": [3], "dtype": "int64"}], device="tpu",
    )  # fmt: skip
    (outcome,) = warm(case)
    assert (outcome.state, [graph["role"] for graph in outcome.graphs]) == ("made", ["step"]), outcome.why
    model = warm_models.Mlp().to("tpu")
    step = tpu_dynamo.train_step(model, warm_models.adamw(model.parameters()), warm_models.cross_entropy)
    batch = torch.randn(3, 16).to("tpu"), torch.tensor([0, 1, 2]).to("tpu")
    forget()
    step(*batch)
    step(*batch)
    assert tpu_dynamo.stats().graphs == {"step": 1}
    assert tpu_dynamo.stats().cache_hits["signature"] >= 1
    assert tpu_dynamo.explain_last_miss() is None


def test_a_training_step_with_a_constant_mask_is_made():
    (case,) = cases(
        factory="tests.warmup.warm_models:masked", modes=["step"], optimizer="tests.warmup.warm_models:adamw",
        loss="tests.warmup.warm_models:cross_entropy", targets_of_loss=1, inputs=[X, {"shape": [3], "dtype": "int64"}],
        device="tpu",
    )  # fmt: skip
    (outcome,) = warm(case)
    assert outcome.state == "made", outcome.why


def test_functions_with_the_decorator_are_cases():
    found = cases_in(warm_models, (), ())
    assert [case.name for case in found] == [
        "decorated/inference/n=2/cpu", "decorated/inference/n=3/cpu",
        "decorated/train/n=2/cpu", "decorated/train/n=3/cpu",
    ]  # fmt: skip
    assert [outcome.state for outcome in warm(found[0], found[3])] == ["made", "made"]
    with torch.no_grad():
        torch.compile(warm_models.Mlp().eval(), backend="tpu")(x=torch.randn(2, 16))
    first = made()
    forget()  # a second size in one process would be symbolic
    torch.compile(warm_models.Mlp(), backend="tpu")(x=torch.randn(3, 16)).sum().backward()
    assert first == (0, 0)
    assert made() == (0, 0)


def test_a_mode_that_needs_a_manifest_is_refused_by_the_decorator():
    with pytest.raises(ValueError, match="optimizer"):
        tpu_dynamo.warmup_case(modes=["step"])


def test_a_check_makes_nothing_and_says_what_is_missing():
    (case,) = cases(inputs=[X], modes=["train"])
    (outcome,) = warm(case, checking=True)
    assert outcome.state == "missing"
    assert len(outcome.missing) == 2
    assert "not in the cache" in outcome.missing[0]
    assert not list(entries(open_store()))
    warm(case)
    (outcome,) = warm(case, checking=True)
    assert (outcome.state, outcome.missing, outcome.notes) == ("found", [], [])


def test_a_check_explains_executables_of_another_environment(monkeypatch):
    (case,) = cases(inputs=[X])
    warm(case)
    maker = client("cpu")
    monkeypatch.setattr(maker, "environment", {**maker.environment, "XLA_FLAGS": ["--xla_something"]})
    (outcome,) = warm(case, checking=True)
    assert outcome.state == "missing"
    (why,) = outcome.missing
    assert "XLA_FLAGS gained --xla_something" in why


def test_a_run_with_flags_of_xla_finds_what_was_warmed_with_them():
    flags = {"xla_cpu_enable_fast_math": True}
    (outcome,) = warm(*cases(inputs=[X], options={"xla_flags": flags}))
    assert outcome.state == "made"
    model = warm_models.Mlp().eval()
    x = torch.randn(3, 16)
    with torch.no_grad():
        torch.compile(model, backend="tpu", options={"xla_flags": flags})(x)
        assert made() == (0, 0)
        forget()
        torch.compile(model, backend="tpu")(x)
    assert made() == (0, 1)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        pytest.param({"options": {"xla_flags": {"xla_a": 1}}}, "usage", ["knows no flag 'xla_a'"], id="flag"),
        pytest.param({"factory": "tests.warmup.warm_models:mpl"}, "usage", ["did you mean 'mlp'"], id="no-factory"),
        pytest.param({"factory": "warm_modls:mlp"}, "usage", ["no module named 'warm_modls'"], id="no-module"),
        pytest.param(
            {"factory": "tests.warmup.warm_models:raising"}, "usage",
            ["ValueError: no such checkpoint", "warm_models.py:", "in raising"], id="factory-raises",
        ),
        pytest.param(
            {"inputs": [{"shape": [3, 17]}]}, "failed", ["same reduction dim", "warm_models.py:", "float32[3, 17]"],
            id="shapes-do-not-fit",
        ),
        pytest.param({"options": {"partitoner": "default"}}, "usage", ["did you mean 'partitioner'"], id="option"),
        pytest.param({"options": {"cache_dir": "x"}}, "usage", ["cache_dir does not belong here"], id="own-option"),
        pytest.param({"inputs": None}, "usage", ["gives a model without inputs"], id="no-inputs"),
        pytest.param({"args": [1, 2, 3]}, "usage", ["TypeError", "takes from 0 to 1"], id="arguments"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_case_is_said_in_words(model, kind, words):
    (outcome,) = warm(*cases(**{"inputs": [X], **model}))
    assert (outcome.state, outcome.kind) == ("failed", kind)
    for each in words:
        assert each in outcome.why


@needs_libtpu
def test_entries_for_a_chip_carry_the_environment_of_its_processes(monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_enable_async_collective_fusion=true")
    todo = cases(inputs=[X], targets=["v5e:2x2"])
    todo += cases(inputs=[X], targets=["v5e:2x2"], device="cpu")
    first, second = warm(*todo)
    assert (first.state, second.state) == ("made", "made")
    found = [listed.metadata for listed in latest(open_store(), "executable", 9)]
    assert len(found) == 1  # whether tensors are uploaded makes no other program where none is written to
    environment = found[0]["environment"]
    assert environment["platform"] == "tpu"
    assert environment["device"] == "TPU v5 lite"
    assert environment["devices"] == "4"
    assert "TFRT TPU v5 lite" in environment["platform version"]
    assert environment["libtpu"]
    assert environment["LIBTPU_INIT_ARGS"] == ["--xla_tpu_enable_async_collective_fusion=true"]
    assert not any(name.startswith("CPU") for name in environment)
    devices = {
        spec["device"] for listed in latest(open_store(), "program", 9) for spec in listed.metadata["explanation"]["inputs"].values()
    }  # fmt: skip
    assert devices == {"tpu", "cpu"}
    again, checked = *warm(todo[0]), *warm(todo[1], checking=True)
    assert (again.state, checked.state) == ("found", "found")


@needs_libtpu
def test_a_case_with_a_mesh_warms_what_spans_the_chips_of_its_target():
    todo = cases(
        factory="tests.warmup.warm_models:split",
        targets=["v5e:2x2"],
        mesh={"dp": 2, "tp": 2},
        inputs=[{"shape": [16, 64], "dtype": "float32"}],
    )
    (first,) = warm(*todo)
    assert (first.state, first.why) == ("made", "")
    (second,) = warm(*todo)
    assert (second.state, second.why) == ("found", "")
    (other,) = warm(*(dataclasses.replace(case, mesh={"dp": 1, "tp": 4}) for case in todo))
    assert other.state == "made"  # other chips lie otherwise
