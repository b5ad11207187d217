"""The backend of torch.compile where a script names none: graphs on the device go to ours, all others to Inductor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from ._torch_compat import become_default_backend, inductor, refuse_device_in_inductor, reset_inductor
from .device import NAME as DEVICE
from .options import OptionError


def tpu_or_inductor(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compile one graph of Dynamo's: by the backend `tpu` if it has tensors on the device, else by Inductor.

    mode, options: those of the backend that takes the graph.
    """
    if not _is_on_device(graph_module):
        return inductor(mode, options)(graph_module, example_inputs)
    from .backend import tpu

    return tpu(graph_module, example_inputs, mode=mode, options=options)


def _is_on_device(graph_module: GraphModule) -> bool:
    values = (node.meta.get("example_value") for node in graph_module.graph.nodes)
    return any(isinstance(value, torch.Tensor) and value.device.type == DEVICE for value in values)


def _release() -> None:
    from .backend import tpu

    tpu.reset()  # pyright: ignore[reportFunctionMemberAccess]
    reset_inductor()


# torch._dynamo.reset() calls this.
tpu_or_inductor.reset = _release  # pyright: ignore[reportFunctionMemberAccess]


def _refusal() -> OptionError:
    return OptionError(
        f'backend="inductor" writes no code for torch.device("{DEVICE}"): write torch.compile(..., backend="tpu"), '
        "or name no backend"
    )


def register_default_backend() -> None:
    """Take the device's graphs where no backend is named, and refuse them in Inductor where it is.

    Both by PyTorch's own registries; a default that somebody else has set stays.
    """
    become_default_backend(tpu_or_inductor)
    refuse_device_in_inductor(DEVICE, _refusal)
