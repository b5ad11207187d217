"""Whose the device's memory is: live bytes by what holds them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .device import NAME as DEVICE
from .device.cells import cell_of
from .session import session


@dataclass(frozen=True)
class Memory:
    """Live bytes of the device's memory by owner; memory that the CPU client shares with the host is none.

    parameters: of modules on the device, and copies of CPU models' parameters and buffers. gradients: their `.grad`.
    optimizer_state: tensors in the state of optimizers. tensors: other tensors that Python code holds: buffers,
    inputs, outputs. activations: what only autograd holds, saved for a backward. constants: of compiled graphs.
    """

    parameters: int = 0
    gradients: int = 0
    optimizer_state: int = 0
    tensors: int = 0
    activations: int = 0
    constants: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(asdict(self).values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value:,} bytes" for name, value in {**asdict(self), "total": self.total}.items())


def memory() -> Memory:
    """Who holds the device's memory now.

    Looks at every Python object, which takes a while: for people, not for loops. A buffer that several tensors share
    is counted once, for the first of the owners in the order of `Memory`'s fields.
    """
    gc.collect()
    everything = gc.get_objects()
    tensors, saved = [], []
    for each in everything:
        if type(each) in (torch.Tensor, torch.nn.Parameter) and each.device.type == DEVICE:
            # Held here by the list, the loop and the call; one reference more with other uses is C++'s, as autograd's.
            only_saved = sys.getrefcount(each) == 4 and each._use_count() > 1
            (saved if only_saved else tensors).append(each)
    optimizers = [o for o in everything if issubclass(type(o), torch.optim.Optimizer)]
    states = [v for o in optimizers for state in o.state.values() for v in state.values()]
    parameters = [t for t in tensors if isinstance(t, torch.nn.Parameter)]
    counted: set[int] = set()
    executables = session().executables()
    return Memory(
        parameters=_claim(parameters, counted) + session().resident_bytes(),
        gradients=_claim((p.grad for p in parameters), counted),
        optimizer_state=_claim(states, counted),
        tensors=_claim(tensors, counted),
        activations=_claim(saved, counted),
        constants=sum(executable.constant_bytes for executable in executables),
    )


def _claim(tensors: Iterable[Any], counted: set[int]) -> int:
    total = 0
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.device.type == DEVICE:
            cell = cell_of(tensor)
            if cell is not None and id(cell.buffer) not in counted:
                counted.add(id(cell.buffer))
                total += cell.nbytes
    return total
