"""The check of a graph's inputs: dense tensors, on one device that the backend can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import UnsupportedInput

from .._torch_compat import input_name
from ..device import NAME as DEVICE


def check_inputs(graph_module: GraphModule, example_inputs: Sequence[Any]) -> bool:
    """Refuse graph inputs that no program can take, and say whether they are on the device `tpu`.

    Raises UnsupportedInput for tensors that are not strided, have no data (`meta`), or live on a device other than
    the CPU and `tpu`, or on both; the message names the input as the user's code does.
    """
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    for placeholder, value in zip(placeholders, example_inputs, strict=True):
        if not isinstance(value, torch.Tensor):
            continue
        name = input_name(placeholder)
        if value.layout != torch.strided:
            raise UnsupportedInput(
                f"input {name}",
                f"is a {value.layout} tensor, and XLA has dense tensors only",
                "pass .values() and .offsets(), or torch.nested.to_padded_tensor(...)"
                if value.layout == torch.jagged
                else "pass .to_dense(), or keep the sparse part outside the compiled function",
            )
        if value.device.type == "meta":
            raise UnsupportedInput(
                f"input {name}",
                "is on the meta device: it has a shape and no data to compute with",
                'model.to_empty(device="cpu") and load its weights before calling it',
            )
        if value.device.type not in ("cpu", DEVICE):
            raise UnsupportedInput(
                f"input {name}",
                f"is on {value.device}, whose memory this backend does not read",
                f"pass tensors of the CPU or of the device {DEVICE!r}",
                code="TPU302",
            )
    places: dict[str, str] = {}
    for placeholder, value in zip(placeholders, example_inputs, strict=True):
        # Numbers in tensors may stay on the CPU, as everywhere in PyTorch.
        if isinstance(value, torch.Tensor) and (value.ndim or value.device.type == DEVICE):
            places.setdefault(value.device.type, input_name(placeholder))
    if len(places) > 1:
        named = ", ".join(f"{name} on {device}" for device, name in places.items())
        raise UnsupportedInput("the graph's inputs", f"are on several devices: {named}", "move them to one", "TPU301")
    return DEVICE in places
