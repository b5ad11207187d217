"""Operands that outlive a call: parameters and buffers of a model, put on the device once and found again."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from .client import Buffer, Client

# XLA's CPU client copies what is less aligned, and a copy would not see later changes.
_ALIGNMENT = 64

Dense = Callable[[torch.Tensor], torch.Tensor]


class Residents(Protocol):
    """Finds the buffers of tensors that come with every call."""

    def operands(self, tensors: Sequence[torch.Tensor]) -> list[Buffer]:
        """One buffer for each tensor, with its present values; the list is not to be changed."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that are held."""
        ...


class SharedResidents:
    """On the CPU client: a buffer describes memory at an address and owns nothing.

    A buffer is used only for a call whose tensor lives at the address that it describes, so the memory is alive and
    its values are the tensor's own, whatever was written to it in between. A model that is dropped is not held.
    """

    nbytes = 0

    def __init__(self, client: Client, dense: Sequence[Dense]):
        self._client = client
        self._dense = dense
        # Replaced as a whole: several threads may call.
        self._known: tuple[list[int], list[Buffer]] = ([-1] * len(dense), [None] * len(dense))

    def operands(self, tensors: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers at the tensors' addresses."""
        addresses = [tensor.data_ptr() for tensor in tensors]
        known, buffers = self._known
        return buffers if addresses == known else self._renewed(tensors, addresses, known, buffers)

    def _renewed(
        self, tensors: Sequence[torch.Tensor], addresses: list[int], known: list[int], buffers: list[Buffer]
    ) -> list[Buffer]:
        marks, renewed = list(known), list(buffers)
        for i, (tensor, address) in enumerate(zip(tensors, addresses, strict=True)):
            if address != known[i]:
                dense = self._dense[i](tensor)
                stays = dense.data_ptr() == address and address % _ALIGNMENT == 0
                renewed[i] = self._client.put_shared(_at_address(dense) if stays else dense)
                marks[i] = address if stays else -1
        if -1 in marks:  # some are copies, good for this call alone
            self._known = marks, [None if mark == -1 else buffer for mark, buffer in zip(marks, renewed, strict=True)]
        else:
            self._known = marks, renewed
        return renewed


def _at_address(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor over the same memory that does not keep it alive."""
    if not tensor.numel():
        return tensor.detach()
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)


class CopiedResidents:
    """On a device with its own memory: a buffer is a copy of one tensor object at one version.

    In-place changes raise the version, `.data =` and `set_` change the address; each is uploaded with the next call.
    The tensors are held weakly: their buffers go when they go.
    """

    def __init__(self, put: Callable[[torch.Tensor], Buffer], dense: Sequence[Dense]):
        self._put = put
        self._dense = dense
        self._slots: list[_Slot | None] = [None] * len(dense)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that are held."""
        return sum(slot.nbytes for slot in self._slots if slot is not None)

    def operands(self, tensors: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers of the tensors at their present versions."""
        buffers = []
        for i, tensor in enumerate(tensors):
            slot = self._slots[i]
            if (
                slot is None
                or slot.tensor() is not tensor
                or slot.version != tensor._version
                or slot.address != tensor.data_ptr()
            ):
                slot = self._renewed(i, tensor)
            buffers.append(slot.buffer)
        return buffers

    def _renewed(self, i: int, tensor: torch.Tensor) -> _Slot:
        # Inference tensors have no versions: they are uploaded with each call.
        if tensor.is_inference():
            return _Slot(tensor, -1, self._put(self._dense[i](tensor)), lambda _: None)
        slots = self._slots

        def drop(gone: Any) -> None:
            if (slot := slots[i]) is not None and slot.tensor is gone:
                slots[i] = None

        slot = slots[i] = _Slot(tensor, tensor._version, self._put(self._dense[i](tensor)), drop)
        return slot


class _Slot:
    """A tensor, held weakly, with the buffer of its values at one version."""

    __slots__ = ("address", "buffer", "nbytes", "tensor", "version")

    def __init__(self, tensor: torch.Tensor, version: int, buffer: Buffer, gone: Callable[[Any], None]):
        self.tensor = weakref.ref(tensor, gone)
        self.version = version
        self.address = tensor.data_ptr()
        self.buffer = buffer
        self.nbytes = tensor.nbytes
