"""torch.compile as scripts for CUDA write it: no backend named, modes that ask for speed, Inductor's options."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.backends import registry
from torch._dynamo.exc import BackendCompilerFailed

import tpu_dynamo
from tpu_dynamo import OptionError, options
from tpu_dynamo._torch_compat import inductor


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@pytest.fixture
def noted(monkeypatch) -> list[str]:
    """Collect the messages of the options' logger."""
    messages: list[str] = []
    options._note_mode.cache_clear()
    monkeypatch.setattr(options.log, "warning", lambda message, *args: messages.append(message % args))
    return messages


@pytest.mark.parametrize("mode", [None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"])
def test_without_a_backend_tensors_of_the_device_are_compiled_here(mode, noted):
    x = torch.ones(3, device="tpu")
    compiled = torch.compile(double, mode=mode)
    assert compiled(x).cpu().tolist() == [2, 2, 2]
    assert tpu_dynamo.stats().graphs == {"inference": 1}
    assert len(noted) == (mode not in (None, "default"))


def test_options_of_ours_are_taken_without_a_backend():
    compiled = torch.compile(double, options={"cache": False})
    assert compiled(torch.ones(3, device="tpu")).device.type == "tpu"


def test_a_function_that_makes_its_tensors_on_the_device_is_compiled_here():
    assert torch.compile(lambda: torch.ones(3, device="tpu") * 2)().device.type == "tpu"
    assert tpu_dynamo.stats().graphs == {"inference": 1}


def test_without_a_backend_other_tensors_are_inductors(monkeypatch):
    wrapper, calls = type(inductor(None, None)), []

    def record(self, graph_module, example_inputs):
        calls.append(self.config)
        return graph_module.forward

    monkeypatch.setattr(wrapper, "__call__", record)
    for given in ({}, {"mode": "max-autotune-no-cudagraphs"}, {"options": {"max_autotune": True}}):
        torch._dynamo.reset()
        assert torch.compile(double, **given)(torch.ones(3)).tolist() == [2, 2, 2]
    assert calls == [{}, {"max_autotune": True, "coordinate_descent_tuning": True}, {"max_autotune": True}]
    assert tpu_dynamo.stats().graphs == {}


def test_a_default_backend_that_somebody_chose_stays():
    registry.set_default_backend("eager")
    try:
        tpu_dynamo.default_backend.register_default_backend()
        assert registry.get_default_backend() == "eager"
    finally:
        registry.set_default_backend(tpu_dynamo.default_backend.tpu_or_inductor)


def test_inductor_by_name_says_in_one_line_what_to_write():
    with pytest.raises(Exception, match=r'torch\.compile\(\.\.\., backend="tpu"\)') as caught:
        torch.compile(lambda x: (x * 2).cumsum(0), backend="inductor")(torch.ones(3, device="tpu"))
    assert "torch_tpu" not in str(caught.value) and "args[0]" not in str(caught.value)


def test_a_mode_is_noted_once(noted):
    for _ in range(2):
        torch._dynamo.reset()
        torch.compile(double, backend="tpu", mode="reduce-overhead")(torch.ones(2))
    assert [message.split(" ")[0] for message in noted] == ["mode='reduce-overhead'"]


def test_inductors_options_are_refused_in_one_line():
    with pytest.raises(BackendCompilerFailed) as caught:
        torch.compile(double, options={"triton.cudagraphs": True})(torch.ones(3, device="tpu"))
    assert isinstance(caught.value.inner_exception, OptionError)
    assert "'triton.cudagraphs' is Inductor's" in str(caught.value)
