"""The tensors that hold the device's memory, by owner."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from .device import NAME as DEVICE
from .device.cells import Cell, cell_of
from .device.references import reference_count


@dataclass(frozen=True)
class HeldTensor:
    """One piece of device memory. owner: a field of Memory. name: of a parameter, else empty."""

    owner: str
    cell: Cell
    name: str = ""


def held_tensors() -> list[HeldTensor]:
    """Return the device memory that tensors hold now, each piece once.

    It looks at every Python object, which takes a while: it is for people, not for loops. A buffer that several tensors
    share is counted for the first of its owners: parameters, gradients, optimizer_state, tensors, activations.
    """
    gc.collect()
    found, optimizers, modules = _tensors_optimizers_and_modules()
    # Reference counts, since no search for referrers sees the local variables of functions that run. A tensor that only
    # autograd saved has one reference beside the list's, which is C++'s, and more than one use there.
    saved_count = reference_count([object()], 0) + 1
    counts = [reference_count(found, i) for i in range(len(found))]
    owned: defaultdict[str, list[Any]] = defaultdict(list)
    for tensor, count in zip(found, counts, strict=True):
        saved = count == saved_count and tensor._use_count() > 1  # pyright: ignore[reportAttributeAccessIssue]
        owned["activations" if saved else "tensors"].append(tensor)
    owned["parameters"] = [t for t in owned["tensors"] if isinstance(t, torch.nn.Parameter)]
    owned["gradients"] = [p.grad for p in owned["parameters"]]
    owned["optimizer_state"] = [v for o in optimizers for state in o.state.values() for v in state.values()]
    names = _names(modules)
    counted: set[int] = set()
    held: list[HeldTensor] = []
    for owner in ("parameters", "gradients", "optimizer_state", "tensors", "activations"):
        held += [HeldTensor(owner, cell, names.get(number, "")) for number, cell in _claim(owned[owner], counted)]
    return held


def _tensors_optimizers_and_modules() -> tuple[list[torch.Tensor], list[torch.optim.Optimizer], list[torch.nn.Module]]:
    """Return the live tensors of the device, optimizers and modules, held by the lists alone."""
    everything = gc.get_objects()
    tensors = [t for t in everything if type(t) in (torch.Tensor, torch.nn.Parameter) and t.device.type == DEVICE]
    optimizers = [o for o in everything if issubclass(type(o), torch.optim.Optimizer)]
    return tensors, optimizers, [m for m in everything if issubclass(type(m), torch.nn.Module)]


def _names(modules: Iterable[torch.nn.Module]) -> dict[int, str]:
    """Return the names of parameters by their ids, as their outermost modules have them."""
    named: dict[int, str] = {}
    for module in modules:
        for name, parameter in vars(module).get("_parameters", {}).items():
            if parameter is not None:
                named[id(parameter)] = f"{type(module).__name__}.{name}"
    return named


def _claim(tensors: Iterable[Any], counted: set[int]) -> list[tuple[int, Cell]]:
    """Return the ids of device tensors with memory that was not counted yet."""
    claimed = []
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.device.type == DEVICE:
            cell = cell_of(tensor)
            if cell is not None and id(cell.buffer) not in counted:
                counted.add(id(cell.buffer))
                claimed.append((id(tensor), cell))
    return claimed
