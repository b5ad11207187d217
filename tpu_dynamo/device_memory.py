"""Device memory in use, by owner."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tpu_dynamo_runtime import html_table

from .device import NAME as DEVICE
from .device.cells import cell_of
from .device.references import reference_count
from .session import session


@dataclass(frozen=True)
class Memory:
    """Live bytes of the device's memory by owner, without memory that the CPU client shares with the host.

    parameters: of modules on the device, and copies of CPU models' parameters and buffers. gradients: their `.grad`.
    optimizer_state: tensors in the state of optimizers. tensors: other tensors that Python code holds: buffers,
    inputs, outputs. activations: tensors that only autograd holds, saved for a backward. constants: of compiled graphs.
    """

    parameters: int = 0
    gradients: int = 0
    optimizer_state: int = 0
    tensors: int = 0
    activations: int = 0
    constants: int = 0

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(asdict(self).values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value:,} bytes" for name, value in {**asdict(self), "total": self.total}.items())

    def _repr_html_(self) -> str:
        """Return the bytes by owner for a notebook."""
        return html_table(("owner", "bytes"), {**asdict(self), "total": self.total}.items())


def memory() -> Memory:
    """Return the device memory in use now, by owner.

    It looks at every Python object, which takes a while: it is for people, not for loops. A buffer that several tensors
    share is counted once, for the first of its owners in the order of `Memory`'s fields.
    """
    gc.collect()
    found, optimizers = _device_tensors_and_optimizers()
    # Reference counts, since no search for referrers sees the local variables of functions that run. A tensor that only
    # autograd saved has one reference beside the list's, which is C++'s, and more than one use there.
    saved_count = reference_count([object()], 0) + 1
    counts = [reference_count(found, i) for i in range(len(found))]
    tensors, saved = [], []
    for tensor, count in zip(found, counts, strict=True):
        (saved if count == saved_count and tensor._use_count() > 1 else tensors).append(tensor)  # pyright: ignore[reportAttributeAccessIssue]
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


def _device_tensors_and_optimizers() -> tuple[list[torch.Tensor], list[torch.optim.Optimizer]]:
    """Return the live tensors of the device and the live optimizers, held by the lists alone."""
    everything = gc.get_objects()
    tensors = [t for t in everything if type(t) in (torch.Tensor, torch.nn.Parameter) and t.device.type == DEVICE]
    return tensors, [o for o in everything if issubclass(type(o), torch.optim.Optimizer)]


def _claim(tensors: Iterable[Any], counted: set[int]) -> int:
    total = 0
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.device.type == DEVICE:
            cell = cell_of(tensor)
            if cell is not None and id(cell.buffer) not in counted:
                counted.add(id(cell.buffer))
                total += cell.nbytes
    return total
