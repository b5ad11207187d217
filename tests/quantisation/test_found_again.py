"""Quantised models that another process compiled: neither lowered nor compiled again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import tpu_dynamo
from tests.tpu_dynamo.test_cache import forget, made

pytest.importorskip("torchao", reason="torchao is not installed (the extra `ecosystem`)")
pytestmark = pytest.mark.filterwarnings("ignore")  # torchao's own


def perceptron() -> tuple[nn.Module, Tensor]:
    """Return a model of two linear layers and an input, the same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64)).eval(), torch.randn(8, 64)


def by_torchao() -> tuple[nn.Module, Tensor]:
    """Return the model with torchao's int8 in weights and activations."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model, given = perceptron()
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model, given


def by_pt2e() -> tuple[nn.Module, Tensor]:
    """Return the model as PT2E converts it, after one calibration."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from tpu_dynamo.integrations.pt2e import TPUQuantizer

    model, given = perceptron()
    prepared = prepare_pt2e(torch.export.export(model, (given,)).module(), TPUQuantizer())
    prepared(given)
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted, given


def call(make: str) -> tuple[Tensor, Tensor]:
    """Return what a model gives compiled and in eager."""
    model, given = {"torchao": by_torchao, "pt2e": by_pt2e}[make]()
    with torch.no_grad():
        return torch.compile(model, backend="tpu", fullgraph=True)(given), model(given)


def report() -> None:
    """Print what is made for both models: by which another process tells that it found everything."""
    for make in ("torchao", "pt2e"):
        forget()
        actual, expected = call(make)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0.1)
        print(make, *made(), *tpu_dynamo.stats().autograd_cache)


@pytest.mark.parametrize("make", ["torchao", "pt2e"])
def test_a_quantised_model_is_found_after_everything_is_forgotten(make):
    outputs = []
    for told in ("miss", "hit"):
        forget()
        outputs.append(call(make)[0])
        assert set(tpu_dynamo.stats().autograd_cache) == {told}
    assert made() == (0, 0)
    assert torch.equal(*outputs)


@pytest.mark.slow
def test_a_quantised_model_is_found_by_another_process(tmp_path):
    report()
    # A module of its own that has `torch` comes before all of torch's, as `__mp_main__` does in a spawned process.
    (tmp_path / "entry.py").write_text("import torch\nfrom tests.quantisation.test_found_again import report\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import entry; entry.report()"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["torchao 0 0 hit", "pt2e 0 0 hit"]
