"""The door to Inductor, PyTorch's own backend: its settings, calling it, and refusing the device in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch._dynamo.backends.registry import get_default_backend, register_backend, set_default_backend
from torch._inductor import config, list_mode_options
from torch._inductor.codegen.common import register_backend_for_device

Compiler = Callable[..., Any]


def inductor(mode: str | None, options: Mapping[str, Any] | None) -> Compiler:
    """Return Inductor as torch.compile makes it. Raises RuntimeError for a mode or an option that it does not know."""
    return torch._TorchCompileInductorWrapper(mode, options, None)


def reset_inductor() -> None:
    """Release what Inductor's compiled functions keep, as torch._dynamo.reset() has it do."""
    torch._TorchCompileInductorWrapper(None, None, None).reset()


def modes_of_inductor() -> frozenset[str]:
    """Return the names that torch.compile takes as `mode`."""
    return frozenset(list_mode_options())


def is_inductors_option(name: str) -> bool:
    """Return True if Inductor has an option of that name."""
    return name.replace("-", "_") in config.get_config_copy()


def become_default_backend(compiler: Compiler) -> None:
    """Let torch.compile call `compiler` where no backend is named, unless somebody has chosen another one."""
    if get_default_backend() == "inductor":
        register_backend(compiler, tags=("debug",))  # looked up by its name alone, so torch lists it to nobody
        set_default_backend(compiler)


class _Refusal:
    """An attribute that raises an error when it is read, of a class too."""

    def __init__(self, error: Callable[[], Exception]):
        self._error = error

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise self._error()


def refuse_device_in_inductor(device: str, error: Callable[[], Exception]) -> None:
    """Make Inductor raise an error where it would write code for a device.

    It first asks whether the code can be cached: there the error stands alone. Later ones come with a whole graph.
    """

    class Refused:
        supports_caching = _Refusal(error)

        def __init__(self, *args: Any):
            raise error()

        create = classmethod(lambda cls, *args: cls())

    register_backend_for_device(device, Refused, Refused)  # pyright: ignore[reportArgumentType]
