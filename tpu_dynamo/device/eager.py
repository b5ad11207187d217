"""Eager operators on device tensors: each kind of ATen call is a program, compiled at the first call."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tpu_dynamo_lowering import Literal, Output, Sparse, TensorSpec, UnsupportedOp
from tpu_dynamo_runtime import Buffer

from ..session import session
from ._torch_compat import DATA_DEPENDENT, NAME, NO_FAKE_TENSOR, OpOverload, pytree, runs_on_cpu
from .cells import strides_of, wrap
from .exact import ExactOperators
from .generator import check_draw, draw_keys
from .host_memory import reachable
from .operator_programs import DeviceProgram, compile_program
from .schemas import Arguments, Schema, functional, schema_of
from .sparse import sparse_tensor
from .tensor_memory import assign, order_of, put_host, read, to_host

log = logging.getLogger("tpu_dynamo.device")

_MAX_PLANS = 4096
# Operators whose indices may lie on the CPU while what they index is on the device.
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")
_INDICES = (torch.int64, torch.int32, torch.bool, torch.uint8)
# `fill` casts whatever its value is, and `set_` changes its tensor's size.
_WRITE_ANYTHING = ("aten::fill", "aten::fill_", "aten::set_")


@dataclass
class _Plan:
    """The program of one kind of call, and the structure of those of its results that are new tensors."""

    program: DeviceProgram
    fresh: pytree.TreeSpec


class Eager:
    """The boxed kernel of every operator that has no kernel of its own on the device."""

    def __init__(self) -> None:
        self._plans: dict[Any, _Plan | str] = {}  # or why such calls run on the CPU
        self._exact = ExactOperators()
        self._logged: set[str] = set()  # operators that ran on the CPU and were logged

    def __call__(self, operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """Run one call. Tensors are on the device; numbers, and indices on the CPU, are uploaded.

        An operator without a lowering, or with a result whose size depends on values, runs on the CPU, which is
        counted and logged. Raises RuntimeError for a tensor of another device, as PyTorch does, and
        NotImplementedError for what has no kernel for the CPU either.
        """
        schema = schema_of(operator)
        arguments = Arguments(schema, args, kwargs)
        _check_devices(operator, arguments)
        if reachable() and self._exact.has(operator, arguments):
            results = self._exact.run(operator, schema, arguments)
            if results is not NotImplemented:
                return results
        kinds = tuple((tuple(t.shape), t.stride(), t.dtype) for t in arguments.tensors)
        kinds += tuple(t.dtype for t in arguments.written)
        key = operator, arguments.key, kinds, torch.get_float32_matmul_precision(), torch.get_default_dtype()
        plan = self._plans.get(key)
        if plan is None:
            check_draw(operator, arguments.named)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            # The program knows of strides the memory order alone: a column of matrices of any width is one program.
            orders = tuple((tuple(t.shape), order_of(t), t.dtype) for t in arguments.tensors)
            by_order = "by order", operator, arguments.key, orders, *kinds[len(orders) :], *key[3:]
            plan = self._plans.get(by_order) or _plan(operator, schema, arguments)
            self._plans[key] = self._plans[by_order] = plan
        if isinstance(plan, str):
            return self._on_host(operator, schema, args, kwargs, plan)
        return _run(plan, schema, arguments)

    def _on_host(self, operator: OpOverload, schema: Schema, args: Any, kwargs: Any, why: str) -> Any:
        if not runs_on_cpu(operator):
            raise NotImplementedError(f"{operator}: {why}. PyTorch has no kernel of it for the CPU either.")
        session().statistics.count("fallbacks", f"{operator} on the CPU: {why}")
        if str(operator) not in self._logged:
            self._logged.add(str(operator))
            log.warning("%s runs on the CPU each time, and its tensors cross: %s", operator, why)
        return _on_host(operator, schema, args, kwargs)


def _check_devices(operator: OpOverload, arguments: Arguments) -> None:
    for tensor in arguments.tensors:
        if tensor.device.type != NAME and tensor.ndim and not arguments.is_number(tensor):
            if operator._schema.name in _INDEXING and tensor.dtype in _INDICES:
                continue
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and "
                f"{tensor.device}! ({operator})\n"
                f'  try: .to("{NAME}") on the tensor of shape {tuple(tensor.shape)}, which is on {tensor.device}'
            )


def _plan(operator: OpOverload, schema: Schema, arguments: Arguments) -> _Plan | str:
    """Compile a call; return its plan, or why such calls run on the CPU."""
    try:
        return _compile(operator, schema, arguments)
    except UnsupportedOp as unsupported:
        return unsupported.problems[0].why
    except DATA_DEPENDENT:
        return "its result depends on values"
    except NO_FAKE_TENSOR as unsupported:
        return f"no program can give its result: {unsupported}"


def _compile(operator: OpOverload, schema: Schema, arguments: Arguments) -> _Plan:
    structure: list[pytree.TreeSpec] = []

    def function(*tensors: torch.Tensor) -> list[Any]:
        fresh, finals = functional(operator, schema, arguments.rebuilt(tensors))
        _check_written(operator, arguments.written, finals)
        written = [value.to(one.dtype) for value, one in zip(finals, arguments.written, strict=True)]
        leaves, spec = pytree.tree_flatten(fresh)
        structure.append(spec)
        # Copies, so that each is a result of the program and none an input or a view.
        return [None if value is None else value.clone() for value in (*leaves, *written)]

    specs = []
    for tensor in arguments.tensors:
        shape = tuple(tensor.shape)
        order = order_of(tensor)
        specs.append((shape, strides_of([shape[d] for d in order], order), tensor.dtype))
    return _Plan(compile_program(function, specs), structure[-1] if structure else pytree.tree_structure(()))


def _check_written(operator: OpOverload, written: Sequence[torch.Tensor], finals: Sequence[torch.Tensor]) -> None:
    """Raise RuntimeError, in PyTorch's words, for results that the tensors they are written to cannot take."""
    name = operator._schema.name
    if name in _WRITE_ANYTHING:
        return
    casts = any(argument.name == "dtype" for argument in operator._schema.arguments)  # to the `out`'s
    for tensor, final in zip(written, finals, strict=True):
        if name.endswith("_") and final.shape != tensor.shape:
            raise RuntimeError(_other_shape(tensor, final.shape))
        if not casts and not torch.can_cast(final.dtype, tensor.dtype):
            found, wanted = (
                torch.empty(0, dtype=dtype, device="cpu").type().removeprefix("torch.").removesuffix("Tensor")
                for dtype in (final.dtype, tensor.dtype)
            )
            raise RuntimeError(f"result type {found} can't be cast to the desired output type {wanted}")


def _other_shape(tensor: torch.Tensor, shape: Sequence[int]) -> str:
    return f"output with shape {list(tensor.shape)} doesn't match the broadcast shape {list(shape)}"


def _run(plan: _Plan, schema: Schema, arguments: Arguments) -> Any:
    program, tensors = plan.program, arguments.tensors
    operands = []
    for position, order in program.operands:
        if position == len(tensors):
            operands.append(put_host(draw_keys(program.random_keys, arguments.generator), (0,)))
        else:
            tensor = tensors[position]
            operands.append(read(tensor, order) if tensor.device.type == NAME else put_host(tensor, order))
    buffers = program(operands)
    found = list(zip(buffers, program.results, strict=True))
    count = plan.fresh.num_leaves
    fresh = [_wrapped(output, found) for output in program.outputs[:count]]
    for tensor, output in zip(arguments.written, program.outputs[count:], strict=True):
        if not isinstance(output, Literal):
            one = found[output.result]  # pyright: ignore[reportAttributeAccessIssue]
            grows = math.prod(one[1].shape) > tensor.numel()
            if grows and schema.outs and any(tensor is operand for operand in tensors):
                raise RuntimeError(_other_shape(tensor, one[1].shape))
            assign(tensor, *one)
    return schema.returns(arguments.named, pytree.tree_unflatten(fresh, plan.fresh))


def _wrapped(output: Output, found: Sequence[tuple[Buffer, TensorSpec]]) -> torch.Tensor | None:
    """Return the tensor of one output of a program with these results; None for one that is None."""
    if isinstance(output, Literal):
        return None
    if isinstance(output, Sparse):
        parts = {i: _of_buffer(*found[i]) for term in output.terms for i in term}
        return sparse_tensor(parts, output)
    return _of_buffer(*found[output.result])  # pyright: ignore[reportAttributeAccessIssue]


def _of_buffer(buffer: Buffer, spec: TensorSpec) -> torch.Tensor:
    return wrap(buffer, spec.shape, spec.dtype, spec.order)


def _on_device(operator: OpOverload, result: torch.Tensor) -> torch.Tensor:
    """Copy a result of the CPU to the device. Raises NotImplementedError for a layout that the device has not."""
    if result.layout == torch.sparse_coo:
        indices, values = (_of_buffer(*_uploaded(part)) for part in (result._indices(), result._values()))
        return torch.sparse_coo_tensor(indices, values, result.shape, is_coalesced=result.is_coalesced())
    if result.layout != torch.strided or result.is_quantized:
        kind = "quantized" if result.is_quantized else result.layout
        raise NotImplementedError(
            f"{operator} gives a {kind} tensor, and the device has strided and sparse COO tensors only\n"
            "  try: call it on the CPU: .cpu()"
        )
    return _of_buffer(*_uploaded(result))


def _on_host(operator: OpOverload, schema: Schema, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a call on the CPU, and bring the results back to the device."""
    hosts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def host(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != NAME:
            return tensor
        return hosts.setdefault(id(tensor), (tensor, to_host(tensor)))[1]

    def here(value: Any) -> Any:
        return torch.device("cpu") if isinstance(value, torch.device) else value

    on_host = pytree.tree_map(lambda x: host(x) if isinstance(x, torch.Tensor) else here(x), (tuple(args), kwargs))
    results = operator(*on_host[0], **on_host[1])
    given = Arguments(schema, args, kwargs)
    for tensor in given.written:
        assign(tensor, *_uploaded(hosts[id(tensor)][1]))
    returned = {id(copy): tensor for tensor, copy in hosts.values()}

    def device(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) in returned:
            return returned[id(tensor)]
        return _on_device(operator, tensor)

    return pytree.tree_map_only(torch.Tensor, device, results)


def _uploaded(tensor: torch.Tensor) -> tuple[Buffer, TensorSpec]:
    order = order_of(tensor)
    return put_host(tensor, order), TensorSpec(tuple(tensor.shape), tensor.dtype, order)
