"""Pinned tensors: PJRT has no page-locked memory of its own, so they lie where others do, and are known as pinned."""

from __future__ import annotations

import ctypes
import logging
import re
from pathlib import Path
from typing import Any

import torch

from tpu_dynamo_runtime.resizable import cpu_allocator, storage_at

log = logging.getLogger("tpu_dynamo.device")

_TORCH = Path(torch.__file__).parent
# Of the class of all hooks, and of that for devices from outside, which has a function more at its end.
_HEADERS = (
    "include/ATen/detail/AcceleratorHooksInterface.h",
    "include/ATen/detail/PrivateUse1HooksInterface.h",
)
_FUNCTION = "getPinnedMemoryAllocator"
_WORD = ctypes.sizeof(ctypes.c_void_p)
# Before a table of virtual functions lie its offset and its type.
_BEFORE = 2

# What C++ holds by address: the allocator, a function that returns it, and a table of functions.
_held: list[Any] = []


def offer_pinned_memory() -> None:
    """Let `torch.empty(pin_memory=True)`, in Python and in C++ as DDP calls it, make tensors for the device.

    PyTorch asks the accelerator's hooks for an allocator, by a virtual function that those written in Python have no
    way to answer. This puts one into the hooks' table, at the place that the header in PyTorch's package says. The
    allocator is a copy of the CPU's, which has no state: by its address pinned storages are known. Where PyTorch is
    laid out otherwise this does nothing, and PyTorch refuses to pin, in its words.
    """
    allocator, names, hooks = cpu_allocator(), _virtual_functions(), _hooks()
    if allocator is None or hooks is None or _FUNCTION not in names:
        log.warning("no memory can be pinned: torch %s lays out its hooks otherwise", torch.__version__)
        return
    own = (ctypes.c_void_p * 1)(_word(allocator))
    answer = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda hooks: ctypes.addressof(own))
    table = _word(hooks) - _BEFORE * _WORD
    functions = (ctypes.c_void_p * (_BEFORE + len(names)))()
    ctypes.memmove(functions, table, ctypes.sizeof(functions))
    functions[_BEFORE + names.index(_FUNCTION)] = ctypes.cast(answer, ctypes.c_void_p).value
    _held.extend((own, answer, functions))
    ctypes.c_void_p.from_address(hooks).value = ctypes.addressof(functions) + _BEFORE * _WORD


def _virtual_functions() -> list[str]:
    """Return the names of the hooks' virtual functions in the order of their table; a destructor has two places."""
    names: list[str] = []
    for header in _HEADERS:
        if (_TORCH / header).exists():
            names += re.findall(r"^ +virtual .*?(~?\w+)\(", (_TORCH / header).read_text(), re.MULTILINE)
    return [name for name in names for _ in range(2 if name.startswith("~") else 1)]


def _hooks() -> int | None:
    """Return the address of the hooks of PrivateUse1."""
    library = _TORCH / "lib" / "libtorch_cpu.so"
    if not library.exists():
        return None
    get = getattr(ctypes.CDLL(str(library)), "_ZN2at6detail19getPrivateUse1HooksEv", None)
    if get is None:
        return None
    get.restype = ctypes.c_void_p
    return get()


def _word(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def is_pinned(self: torch.Tensor, device: torch.device | None = None) -> bool:
    """Tell whether a CPU tensor was made as a pinned one."""
    return bool(_held) and storage_at(self.untyped_storage()._cdata).allocator == ctypes.addressof(_held[0])


def pin_memory(self: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Return a pinned copy of a CPU tensor."""
    made = torch.empty_like(self, pin_memory=True) if _held else torch.empty_like(self)
    return made.copy_(self)
