"""From a call's tensors to the buffers that a program takes; parameters are put on the device once and found again."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import torch

from .pjrt import Buffer, Client
from .residents import Copy, Order, Residents
from .transfer import Copying

# XLA's CPU client copies what is less aligned, and a copy would not see later changes.
_ALIGNMENT = 64


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


class SharedOperands:
    """On the CPU client: a buffer describes memory at an address and owns nothing.

    A buffer is used only for a call whose tensor lives at the address that it describes, so the memory is alive and
    its values are the tensor's own, whatever was written to it in between. A model that is dropped is not held.
    """

    def __init__(self, client: Client, operands: Sequence[Operand], constants: Sequence[Buffer] = ()):
        self._client = client
        self._resident = [operand for operand in operands if operand.resident]
        self._residents_of = _getter([operand.position for operand in self._resident])
        self._moving = [(i, _Moving(client, o), o.position) for i, o in enumerate(operands) if not o.resident]
        # Replaced as a whole: several threads may call.
        self._known: tuple[list[int], list[Buffer]] = (
            [-1] * len(self._resident), [*([None] * len(self._resident)), *constants]
        )  # fmt: skip

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers at the tensors' addresses, and the constants."""
        addresses = list(map(_data_ptr, self._residents_of(inputs)))
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
        self._plain = operand.order is None
        self._last = -1
        self._known: tuple[int, Buffer] = (-1, None)

    def __call__(self, tensor: torch.Tensor) -> Buffer:
        address = tensor.data_ptr()
        known, buffer = self._known
        # As `dense` would have it, asked without another call of Python's.
        plain = self._plain and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()
        if plain and address == known:
            return buffer
        dense = tensor if plain else self._operand.dense(tensor)
        if dense.data_ptr() != address:
            return self._client.put_shared(dense)  # a copy, which the buffer must own
        if address == known:
            return buffer
        # A description costs more than a buffer that owns the tensor, so it must come twice.
        if address == self._last and _stays(dense, address):
            self._known = address, self._client.put_shared(_at_address(dense))
            return self._known[1]
        self._last = address
        return self._client.put_shared(dense)


_data_ptr = torch.Tensor.data_ptr


def _getter(positions: Sequence[int]) -> Callable[[Sequence[torch.Tensor]], Iterable[torch.Tensor]]:
    """What gives the items at these positions; `itemgetter` gives no tuple of one, and takes at least one."""
    return itemgetter(*positions) if len(positions) > 1 else lambda items: [items[position] for position in positions]


def _stays(dense: torch.Tensor, address: int) -> bool:
    return dense.data_ptr() == address and address % _ALIGNMENT == 0


def _at_address(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor over the same memory that does not keep it alive."""
    if not tensor.numel():
        return tensor.detach()
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)


class CopiedOperands:
    """On a device with its own memory: a parameter's buffer is the copy that `residents` has of it.

    buffer_of: the buffer of a tensor that lives on the device already, None for others.
    """

    def __init__(
        self,
        transfer: Copying,
        operands: Sequence[Operand],
        residents: Residents,
        constants: Sequence[Buffer] = (),
        buffer_of: Callable[[torch.Tensor], Buffer | None] = lambda tensor: None,
    ):
        self._transfer = transfer
        self._buffer_of = buffer_of
        self._operands = operands
        self._residents = residents
        self._constants = constants
        self._copies: list[Copy | None] = [None] * len(operands)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers of the tensors at their present versions, and the constants."""
        buffers: list[Buffer] = []
        for i, operand in enumerate(self._operands):
            tensor, copy = inputs[operand.position], self._copies[i]
            if copy is not None and copy.holds(tensor):
                buffers.append(copy.buffer)
            elif (buffer := self._buffer_of(tensor)) is not None:
                buffers.append(buffer)
            # Inference tensors have no versions: they are uploaded with each call.
            elif operand.resident and not tensor.is_inference():
                copy = self._residents.find(tensor, operand.order)
                if copy is None:
                    copy = self._residents.add(tensor, operand.order, self._transfer.put(operand.dense(tensor)))
                self._copies[i] = copy
                buffers.append(copy.buffer)
            else:
                buffers.append(self._transfer.put(operand.dense(tensor)))
        buffers += self._constants
        return buffers
