"""Programs of XLA's CPU client on the tensors' own memory: nothing is copied, in or out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import repeat

import torch

from ._torch_compat import tensor_from_dlpack
from .executable import Executable, ProgramInterface
from .launch import consumer_of
from .operands import Operand, items_at
from .pjrt import Buffer, Client, Unremembered, to_dlpack
from .pool import PooledProgram
from .resizable import cpu_allocator, storage_at
from .traffic import Traffic
from .watching import Watching

# XLA's CPU client copies what is less aligned, and a copy would not see later changes.
_ALIGNMENT = 64


class SharedExecutable(Executable):
    """A program of the CPU client, which reads the inputs' own memory and whose results are the tensors' memory.

    A buffer describes memory at an address and owns nothing. It is used only for a call whose tensor lives at that
    address, so the memory is alive and its values are the tensor's own, whatever was written to it in between. A
    model that is dropped is not held.

    traffic: where runs are counted.
    handed_out: numbers of results that the caller gets, whose memory can be resized; others cannot.
    """

    def __init__(
        self,
        program: PooledProgram,
        traffic: Traffic,
        interface: ProgramInterface,
        handed_out: Iterable[int] = (),
        described: str = "",
    ):
        super().__init__(interface, described=described)
        client = program.client
        self._allocator = cpu_allocator()
        self._handed_out = list(handed_out) if self._allocator is not None else []
        self._client = client
        self._program = program
        self._traffic = traffic
        self._consume = consumer_of(client, interface.results)
        self._resident = [operand for operand in self._operands if operand.resident]
        self._residents_of = items_at([operand.position for operand in self._resident])
        self._moving = [(i, Moving(client, o), o.position) for i, o in enumerate(self._operands) if not o.resident]
        # Replaced as a whole: several threads may call.
        self._known: tuple[list[int], list[Buffer]] = (
            [-1] * len(self._resident), [*([None] * len(self._resident)), *map(client.put_shared, interface.constants)]
        )  # fmt: skip

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on tensors of the shapes and dtypes that the program was lowered for.

        Only inputs that are unaligned or in another layout are copied. The results are fresh tensors with eager
        PyTorch's strides, which never share memory with the inputs.
        """
        # What a call costs is here, and in one function: each further one costs 0.2 us where its code is not in cache.
        addresses = list(map(_data_ptr, self._residents_of(inputs)))
        known, residents = self._known
        operands = residents.copy() if addresses == known else self._renewed(inputs, addresses)
        for i, moving, position in self._moving:
            # In the order of the parameters, so each finds its place among the residents.
            operands.insert(i, moving(inputs[position]))
        executable = self._program.executable or self._program.loaded()
        watcher = Watching.now
        with Unremembered():
            if watcher is None:
                buffers = self._consume(executable.execute_sharded(operands))
            else:
                buffers = self._consume(watcher.execute(self._program, self.described, executable, operands))
        self._traffic.executions += 1
        self._program.last_use = self._traffic.executions
        outputs = list(map(tensor_from_dlpack, map(to_dlpack, buffers, repeat(None))))
        for i in self._handed_out:  # as `let_resize`
            fields = storage_at(outputs[i].untyped_storage()._cdata)
            fields.allocator, fields.resizable = self._allocator, True
        return outputs if self._finished else self._finish(inputs, outputs)

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


class Moving:
    """Makes buffers for an operand whose tensor differs from call to call, but often lies where the last one lay."""

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


def _stays(dense: torch.Tensor, address: int) -> bool:
    return dense.data_ptr() == address and address % _ALIGNMENT == 0


def _at_address(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor over the same memory that does not keep it alive."""
    if not tensor.numel():
        return tensor.detach()
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)
