"""From a call's tensors to the buffers that a program takes; parameters are put on the device once and found again."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .pjrt import Buffer, Client
from .transfer import Copying

# XLA's CPU client copies what is less aligned, and a copy would not see later changes.
_ALIGNMENT = 64

# A tensor's dimensions from the outermost in memory to the innermost; None for row-major.
Order = tuple[int, ...] | None


@dataclass(frozen=True)
class Operand:
    """One parameter of `@main`: the position of its tensor among a call's inputs, and how it crosses.

    order: the memory order in which the program takes it. resident: the same tensor comes with every call, a
    model's parameter, and always with the strides that it has the first time.
    """

    position: int
    order: Order = None
    resident: bool = False

    def dense(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as the program takes it: in its memory order, contiguous, without lazy conjugation."""
        if self.order is not None:
            tensor = tensor.permute(self.order)
        if tensor.is_conj():
            tensor = tensor.resolve_conj()
        if tensor.is_neg():
            tensor = tensor.resolve_neg()
        return tensor if tensor.is_contiguous() else tensor.contiguous()


class Operands(Protocol):
    """Finds or makes the buffers of a call's tensors."""

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """A fresh list with the buffer of each operand, holding its present values."""
        ...

    @property
    def resident_bytes(self) -> int:
        """Bytes of device memory held for parameters."""
        ...


class SharedOperands:
    """On the CPU client: a buffer describes memory at an address and owns nothing.

    A buffer is used only for a call whose tensor lives at the address that it describes, so the memory is alive and
    its values are the tensor's own, whatever was written to it in between. A model that is dropped is not held.
    """

    resident_bytes = 0

    def __init__(self, client: Client, operands: Sequence[Operand]):
        self._client = client
        self._resident = [operand for operand in operands if operand.resident]
        self._resident_positions = [operand.position for operand in self._resident]
        self._moving = [(i, _Moving(client, o), o.position) for i, o in enumerate(operands) if not o.resident]
        # Replaced as a whole: several threads may call.
        self._known: tuple[list[int], list[Buffer]] = ([-1] * len(self._resident), [None] * len(self._resident))

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers at the tensors' addresses."""
        addresses = [inputs[position].data_ptr() for position in self._resident_positions]
        known, residents = self._known
        buffers = residents.copy() if addresses == known else self._renewed(inputs, addresses)
        for i, moving, position in self._moving:
            # In the order of the parameters, so each finds its place among the residents.
            buffers.insert(i, moving(inputs[position]))
        return buffers

    def _renewed(self, inputs: Sequence[torch.Tensor], addresses: list[int]) -> list[Buffer]:
        known, buffers = self._known[0].copy(), self._known[1].copy()
        renewed = buffers.copy()
        for i, (operand, address) in enumerate(zip(self._resident, addresses, strict=True)):
            if address != known[i]:
                dense = operand.dense(inputs[operand.position])
                stays = _stays(dense, address)
                renewed[i] = self._client.put_shared(_at_address(dense) if stays else dense)
                # A copy is good for this call alone.
                known[i], buffers[i] = (address, renewed[i]) if stays else (-1, None)
        self._known = known, buffers
        return renewed


class _Moving:
    """An operand that differs from call to call, but often enough lies where the last one lay."""

    def __init__(self, client: Client, operand: Operand):
        self._client = client
        self._operand = operand
        self._last = -1
        self._known: tuple[int, Buffer] = (-1, None)

    def __call__(self, tensor: torch.Tensor) -> Buffer:
        dense = self._operand.dense(tensor)
        address = tensor.data_ptr()
        if dense.data_ptr() != address:
            return self._client.put_shared(dense)  # a copy, which the buffer must own
        known, buffer = self._known
        if address == known:
            return buffer
        # A description costs more than a buffer that owns the tensor, so it must come twice.
        if address == self._last and _stays(dense, address):
            self._known = address, self._client.put_shared(_at_address(dense))
            return self._known[1]
        self._last = address
        return self._client.put_shared(dense)


def _stays(dense: torch.Tensor, address: int) -> bool:
    return dense.data_ptr() == address and address % _ALIGNMENT == 0


def _at_address(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor over the same memory that does not keep it alive."""
    if not tensor.numel():
        return tensor.detach()
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)


class CopiedOperands:
    """On a device with its own memory: a parameter's buffer is a copy of one storage at one version.

    In-place changes raise the version, `.data =` and `set_` change the storage; each is uploaded with the next call.
    The storages are held weakly: their buffers go when they go. buffer_of: the buffer of a tensor that lives on the
    device already, None for others.
    """

    def __init__(
        self,
        transfer: Copying,
        operands: Sequence[Operand],
        buffer_of: Callable[[torch.Tensor], Buffer | None] = lambda tensor: None,
    ):
        self._transfer = transfer
        self._buffer_of = buffer_of
        self._operands = operands
        self._slots: list[_Slot | None] = [None] * len(operands)

    @property
    def resident_bytes(self) -> int:
        """Bytes of device memory held for parameters."""
        return sum(slot.nbytes for slot in self._slots if slot is not None)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers of the tensors at their present versions."""
        buffers = []
        for i, operand in enumerate(self._operands):
            tensor, slot = inputs[operand.position], self._slots[i]
            if slot is not None and slot.holds(tensor):
                buffers.append(slot.buffer)
                continue
            if (buffer := self._buffer_of(tensor)) is not None:
                buffers.append(buffer)
                continue
            buffer = self._transfer.put(operand.dense(tensor))
            buffers.append(buffer)
            # Inference tensors have no versions: they are uploaded with each call.
            if operand.resident and not tensor.is_inference():
                self._keep(i, tensor, buffer)
        return buffers

    def _keep(self, i: int, tensor: torch.Tensor, buffer: Buffer) -> None:
        slots = self._slots

        def drop(gone: Any) -> None:
            if (slot := slots[i]) is not None and slot.storage is gone:
                slots[i] = None

        slots[i] = _Slot(tensor, buffer, drop)


class _Slot:
    """A tensor's storage, held weakly, with the buffer of its values at one version.

    The storage and not the tensor: PyTorch refuses to swap tensors that someone refers to, as load_state_dict may.
    """

    __slots__ = ("address", "buffer", "nbytes", "storage", "version")

    def __init__(self, tensor: torch.Tensor, buffer: Buffer, gone: Callable[[Any], None]):
        self.storage = weakref.ref(tensor.untyped_storage(), gone)
        self.version = tensor._version
        self.address = tensor.data_ptr()
        self.buffer = buffer
        self.nbytes = tensor.nbytes

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether the buffer has the values that `tensor` has now."""
        # The version last: inference tensors, which are never kept, have none.
        return (
            self.address == tensor.data_ptr()
            and self.storage() is tensor.untyped_storage()
            and self.version == tensor._version
        )
