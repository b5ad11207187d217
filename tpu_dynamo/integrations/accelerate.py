"""Hugging Face accelerate, on which transformers' Trainer stands: the device and the backend among those it lists.

accelerate 1.15 has no registration for devices or backends. It chooses the device by a list of functions, and so the
CPU, while transformers takes tpu:0; its variable ACCELERATE_TORCH_DEVICE would also move what asks for `cpu=True`.
Each change here answers for this device alone and asks accelerate otherwise.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import torch

from ..device import NAME as DEVICE

log = logging.getLogger("tpu_dynamo.integrations")


def adapt(accelerate: ModuleType) -> None:
    """Make the device accelerate's default, its backend a DynamoBackend, and fp16 with a scaler possible on it."""
    _choose_device(accelerate.state.PartialState)
    _add_backend(accelerate.utils.dataclasses.DynamoBackend)
    _allow_half_precision(accelerate.accelerator)


def _choose_device(state: Any) -> None:
    """Let the default device be ours where accelerate would take the CPU; `cpu=True` never asks for the default."""
    original = state.default_device

    def default_device(self: Any) -> torch.device:
        chosen = original.__get__(self)
        return torch.device(DEVICE, 0) if chosen.type == "cpu" else chosen

    state.default_device = property(default_device, doc=original.__doc__)


def _add_backend(backends: Any) -> None:
    """Add the member TPU, which accelerate passes to torch.compile in lower case."""
    name = DEVICE.upper()
    if name in backends.__members__:
        return
    member = str.__new__(backends, name)
    member._name_ = member._value_ = name
    member.__objclass__, member._sort_order_ = backends, len(backends)
    backends._member_map_[name] = backends._value2member_map_[name] = member
    backends._member_names_.append(name)


def _allow_half_precision(accelerator: Any) -> None:
    """Add the device to the tuple of those that may have fp16, a constant of Accelerator.__init__, and its scaler."""
    code = accelerator.Accelerator.__init__.__code__
    lists = [each for each in code.co_consts if isinstance(each, tuple) and {"cuda", "xpu", "mps"} <= set(each)]
    if len(lists) != 1:
        log.info("this version of accelerate lists the devices for fp16 elsewhere: fp16 is left as it is")
        return
    constants = tuple((*each, DEVICE) if each is lists[0] else each for each in code.co_consts)
    accelerator.Accelerator.__init__.__code__ = code.replace(co_consts=constants)
    original = accelerator.get_grad_scaler

    def get_grad_scaler(*args: Any, **kwargs: Any) -> Any:
        if accelerator.PartialState().device.type != DEVICE:
            return original(*args, **kwargs)
        kwargs.pop("distributed_type", None)
        return torch.amp.GradScaler(DEVICE, **kwargs)

    accelerator.get_grad_scaler = get_grad_scaler
