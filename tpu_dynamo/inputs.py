"""What may enter a graph: dense tensors on one device that the backend can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import UnsupportedInput

from ._torch_compat import input_name


def check_inputs(graph_module: GraphModule, example_inputs: Sequence[Any]) -> None:
    """Refuse graph inputs that no program can take.

    Raises UnsupportedInput for tensors that are not strided, have no data (`meta`), or live on a device that is
    not the CPU; the message names the input as the user's code does.
    """
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    for placeholder, value in zip(placeholders, example_inputs, strict=True):
        if not isinstance(value, torch.Tensor):
            continue
        name = input_name(placeholder)
        if value.layout != torch.strided:
            raise UnsupportedInput(
                f"input {name} is a {value.layout} tensor, and XLA has dense tensors only\n"
                "  try: pass .to_dense(), or keep the sparse part outside the compiled function"
            )
        if value.device.type == "meta":
            raise UnsupportedInput(
                f"input {name} is on the meta device: it has a shape and no data to compute with\n"
                '  try: model.to_empty(device="cpu") and load its weights before calling it'
            )
    devices: dict[torch.device, str] = {}
    for placeholder, value in zip(placeholders, example_inputs, strict=True):
        if isinstance(value, torch.Tensor):
            devices.setdefault(value.device, input_name(placeholder))
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise UnsupportedInput(f"the graph's inputs are on several devices: {places}\n  try: move them to one")
    for device, name in devices.items():
        if device.type != "cpu":
            raise UnsupportedInput(
                f"input {name} is on {device}, whose memory this backend does not read\n"
                "  try: pass CPU tensors; they are moved to the target's device"
            )
