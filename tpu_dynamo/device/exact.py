"""Operators that round nothing, run by PyTorch on memory that the host can reach: they need no program."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tpu_dynamo_lowering import TensorSpec

from ._torch_compat import NAME, OpOverload, runs_on_cpu, without_autocast
from .cells import Cell, cell_of, set_cell, wrap
from .host_memory import adopt, borrowing, memory_of, seen_as
from .schemas import Arguments, Schema
from .tensor_memory import allocated_cell, assign, order_of

_WHOLE = frozenset((torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))
_MOVED = _WHOLE | {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
}  # fmt: skip
# Operators that move values of any dtype, and compute none.
_MOVES = frozenset((
    "aten::cat", "aten::constant_pad_nd", "aten::fill", "aten::fill_", "aten::flip", "aten::gather", "aten::index",
    "aten::index_copy", "aten::index_copy_", "aten::index_fill", "aten::index_fill_", "aten::index_select",
    "aten::masked_fill", "aten::masked_fill_", "aten::masked_scatter", "aten::repeat", "aten::roll", "aten::scatter",
    "aten::scatter_", "aten::stack", "aten::tril", "aten::tril_", "aten::triu", "aten::triu_", "aten::where",
    "aten::zero_",
))  # fmt: skip
_REDUCING = ("reduce", "value_reduce")  # overloads of `scatter`
# Random numbers are the device's own. A size that depends on values is a look at the host, counted as such.
_OTHERWISE = {torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}


class ExactOperators:
    """The operators of which every way to compute them gives the same bits.

    They move values, or compute with integers and booleans alone. On XLA's CPU client, whose memory is the host's,
    PyTorch's own kernels run them at once, where a program would have to be compiled for every new shape: the masks,
    positions and finished flags of a loop that generates have another length at every token.
    """

    def __init__(self) -> None:
        self._known: dict[Any, bool] = {}

    def has(self, operator: OpOverload, arguments: Arguments) -> bool:
        """Return True for a call that `run` can run, as far as is known before."""
        key = operator, *[t.dtype for t in arguments.tensors], None, *[t.dtype for t in arguments.written]
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _rounds_nothing(operator, arguments)
        return known

    @borrowing
    def run(self, operator: OpOverload, schema: Schema, arguments: Arguments) -> Any:
        """Run a call; return its results, or NotImplemented where one turns out to be rounded. Raises what it does.

        What the call writes to gets new memory, in which all its tensors see what it writes, as PyTorch has it.
        """
        host = _Host(arguments)
        as_tensors = _tensor_arguments(operator)
        named = {
            # The dispatcher gives numbers in the place of tensors as numbers, and takes none.
            name: torch.tensor(value, device="cpu")
            if isinstance(value, int | float | complex) and name in as_tensors
            else host.value(value)
            for name, value in arguments.named.items()
        }
        with without_autocast():
            results = operator(**named)
        values = list(results) if isinstance(results, tuple) else [results]
        fresh = [value for value, name in zip(values, schema.returned, strict=False) if name is None]
        if str(operator._schema.name) not in _MOVES and any(_is_rounded(value) for value in fresh):
            self._known = {key: known and key[0] is not operator for key, known in self._known.items()}
            return NotImplemented
        host.write_back()
        return schema.returns(arguments.named, [host.wrapped(value) for value in fresh])


@cache
def _tensor_arguments(operator: OpOverload) -> frozenset[str]:
    """Return the names of an operator's arguments that are one tensor."""
    return frozenset(a.name for a in operator._schema.arguments if str(a.type) == "Tensor")


def _rounds_nothing(operator: OpOverload, arguments: Arguments) -> bool:
    name = operator._schema.name
    if not name.startswith("aten::") or _OTHERWISE & set(operator.tags) or not runs_on_cpu(operator):
        return False
    met = {t.dtype for t in (*arguments.tensors, *arguments.written) if not arguments.is_number(t)}
    if name not in _MOVES:
        return bool(met) and {t.dtype for t in (*arguments.tensors, *arguments.written)} <= _WHOLE
    masks = arguments.named.get("indices") or ()
    by_mask = any(isinstance(m, torch.Tensor) and m.dtype in (torch.bool, torch.uint8) for m in masks)
    return met <= _MOVED and not by_mask and operator._schema.overload_name not in _REDUCING


def _is_rounded(value: Any) -> bool:
    found = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(one, torch.Tensor) and one.dtype not in _WHOLE for one in found)


class _Host:
    """The arguments of one call as CPU tensors, in the memory of its cells or, where it is written to, in a copy."""

    def __init__(self, arguments: Arguments):
        self._written = arguments.written
        self._copied = {id(tensor.untyped_storage()) for tensor in arguments.written}
        self._memories: dict[int, torch.Tensor] = {}  # by storage
        self._tensors: dict[int, torch.Tensor] = {}  # by tensor of the device

    def value(self, value: Any) -> Any:
        """Return an argument with CPU tensors in the place of the device's."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value) if value.device.type == NAME else value
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return torch.device("cpu") if isinstance(value, torch.device) else value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._tensors:
            storage = id(tensor.untyped_storage())
            if storage in self._copied and cell_of(tensor) is None:  # an `out` that was just made
                seen = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            else:
                if storage not in self._memories:
                    memory = memory_of(allocated_cell(tensor))
                    self._memories[storage] = memory.clone() if storage in self._copied else memory
                seen = seen_as(self._memories[storage], tensor)
            self._tensors[id(tensor)] = seen
        return self._tensors[id(tensor)]

    def write_back(self) -> None:
        """Put what the call wrote into the device's tensors."""
        for tensor in self._written:
            seen, memory = self._tensors[id(tensor)], self._memories.get(id(tensor.untyped_storage()))
            if memory is None or seen.shape != tensor.shape:
                order = order_of(seen)
                assign(tensor, adopt(seen, order), TensorSpec(tuple(seen.shape), seen.dtype, order))
            else:
                set_cell(tensor, Cell(adopt(memory, range(memory.ndim)), tuple(memory.shape), memory.dtype))

    def wrapped(self, value: Any) -> Any:
        """Return a result with the device's tensors in the place of CPU tensors."""
        if isinstance(value, list | tuple):
            return [self.wrapped(one) for one in value]
        if not isinstance(value, torch.Tensor):
            return value
        storage = value.untyped_storage().data_ptr()
        if any(memory.untyped_storage().data_ptr() == storage for memory in self._memories.values()):
            value = value.clone()
        order = order_of(value)
        return wrap(adopt(value, order), tuple(value.shape), value.dtype, order)
