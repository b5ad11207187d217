"""Errors: each says what was asked, why it cannot be, the user's own line and what to do."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

import tpu_dynamo
from tpu_dynamo.backend import tpu
from tpu_dynamo_lowering import choice, table


@torch.library.custom_op("tpu_dynamo_tests::opaque", mutates_args=())
def opaque(x: torch.Tensor) -> torch.Tensor:
    """An operator that nothing lowers: it leaves PyTorch for NumPy."""
    return torch.from_numpy(x.numpy() + 1)


@opaque.register_fake
def _(x):
    return torch.empty_like(x)


def refused(function, *args, **options) -> str:
    with pytest.raises(BackendCompilerFailed) as caught:
        torch.compile(function, backend="tpu", fullgraph=True, **options)(*args)
    return str(caught.value)


def line_of(function, text: str) -> str:
    lines, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


def test_an_operator_without_lowering_is_named_with_its_types_and_the_users_line():
    def model(x):
        y = x * 2
        return opaque(y) + 1

    message = refused(model, torch.randn(2, 3))
    assert "tpu_dynamo_tests.opaque.default(float32[2, 3])" in message
    assert line_of(model, "return opaque") in message
    assert "return opaque(y) + 1" in message
    assert "try: " in message


def test_all_operators_without_lowering_are_listed_at_once():
    def model(x):
        y = opaque(x)
        return opaque(y.to(torch.float64))

    message = refused(model, torch.randn(2))
    assert message.startswith("backend='tpu' raised:\nUnsupportedOp: 2 operations")
    assert line_of(model, "y = opaque") in message
    assert line_of(model, "return opaque") in message


def test_fallback_to_eager_is_counted_and_named():
    def model(x):
        return opaque(x) * 2

    x = torch.randn(3)
    out = torch.compile(model, backend="tpu", options={"fallback": "eager"})(x)
    torch.testing.assert_close(out, model(x))
    ((reason, count),) = tpu_dynamo.stats().fallbacks.items()
    assert "tpu_dynamo_tests.opaque" in reason
    assert count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"tarjet": "cpu"}, "unknown option 'tarjet'; did you mean 'target'?", id="unknown-option"),
        pytest.param({"max-autotune": True}, "option 'max-autotune' is Inductor's, and this backend", id="of-inductor"),
        pytest.param({"triton.cudagraphs": True}, "leave it out; options here: target,", id="of-triton"),
        pytest.param(
            {"fallback": "never"}, "fallback='never': Input should be 'error', 'eager' or 'operator'", id="wrong-value"
        ),
        pytest.param({"target": "cpuu"}, "unknown target 'cpuu'; did you mean 'cpu'?", id="unknown-target"),
        pytest.param({"target": "tpu"}, "target 'tpu' is not available", id="no-tpu"),
        pytest.param({"target": "cuda"}, "target 'cuda' is not available", id="no-cuda-plugin"),
    ],
)
def test_bad_options_are_refused(options, message):
    assert message in refused(lambda x: x + 1, torch.randn(2), options=options)


def test_an_unknown_mode_is_refused():
    assert "mode='fastest' is no mode of torch.compile: default," in refused(
        lambda x: x + 1, torch.randn(2), mode="fastest"
    )


def test_meta_tensors_are_refused_by_name():
    message = refused(lambda weight: weight + 1, torch.empty(2, device="meta"))
    assert "input L['weight'] is on the meta device" in message


def test_nested_tensors_are_refused_by_name():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    assert "input L['x'] is a torch.jagged tensor" in refused(lambda x: x * 2, nested)


def given_to_the_backend(*inputs):
    graph = torch.fx.Graph()
    placeholders = [graph.placeholder(f"input_{i}") for i in range(len(inputs))]
    graph.output(tuple(placeholders))
    return tpu(torch.fx.GraphModule(torch.nn.Module(), graph), inputs)


def test_sparse_tensors_are_refused():
    with pytest.raises(tpu_dynamo.UnsupportedInput, match=r"input_0 is a torch.sparse_coo tensor.*\n.*to_dense"):
        given_to_the_backend(torch.eye(2).to_sparse())


def test_inputs_on_several_devices_are_refused():
    with pytest.raises(tpu_dynamo.UnsupportedInput, match="input_0 on cpu, input_1 on tpu"):
        given_to_the_backend(torch.empty(2), torch.empty(2, device="tpu"))


def test_inputs_on_a_foreign_device_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), pytest.raises(tpu_dynamo.UnsupportedInput, match="on cuda:0, whose memory"):
        given_to_the_backend(torch.empty(2, device="cuda"))


def breaking(monkeypatch, function):
    """Put a kernel that gives StableHLO which XLA refuses, or that fails, in relu's place."""
    entry = table.Lowering(torch.ops.aten.relu.default, table.How.KERNEL, "broken on purpose.", function)
    monkeypatch.setitem(table.TABLE, torch.ops.aten.relu.default, entry)
    monkeypatch.setattr(choice, "PATTERNS", choice.PATTERNS - {torch.ops.aten.relu.default})


def test_a_failing_stage_leaves_a_repro_folder_and_names_the_line(monkeypatch, tmp_path):
    def broken(x):
        raise ValueError("broken on purpose")

    breaking(monkeypatch, broken)

    def model(x):
        return torch.relu(x) + 12345

    message = refused(model, torch.randn(2), options={"dump_dir": tmp_path})
    assert "broken on purpose" in message
    assert line_of(model, "return torch.relu") in message
    (folder,) = [Path(line.split(" are in ")[1]) for line in message.splitlines() if " are in " in line]
    assert folder.parent == tmp_path
    assert "relu" in (folder / "aot.fx.py").read_text()
    assert "torch.aten.relu" in (folder / "torch.mlir").read_text() or "relu" in (folder / "torch.mlir").read_text()
    assert json.loads((folder / "versions.json").read_text())["torch"] == torch.__version__


def test_xla_refusing_a_program_leaves_a_repro_folder(monkeypatch, tmp_path):
    import jax

    def refused_by_xla(x):
        return jax.ffi.ffi_call("tpu_dynamo_tests_no_such_target", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    breaking(monkeypatch, refused_by_xla)
    # A size that no other test breaks relu at: a process keeps what a kernel gave for equal calls.
    message = refused(torch.relu, torch.randn(7), options={"dump_dir": tmp_path})
    assert "XLA failed" in message
    (folder,) = tmp_path.iterdir()
    assert "tpu_dynamo_tests_no_such_target" in (folder / "stablehlo.mlir").read_text()
