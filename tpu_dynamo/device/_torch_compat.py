# pyright: reportAttributeAccessIssue=false
"""The device's one door to PyTorch's private APIs: PrivateUse1 in Python, storages, redispatching."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

__all__ = [
    "DATA_DEPENDENT",
    "NAME",
    "OpOverload",
    "answer",
    "as_view",
    "contiguous_stride",
    "empty_tensor",
    "library",
    "overloads_with_prefix",
    "owner_of_private_use",
    "pytree",
    "reset_tensor",
    "take_private_use",
    "without_autocast",
]

NAME = "tpu"

# What tracing raises for an operator whose result's size or value depends on data.
DATA_DEPENDENT = (DynamicOutputShapeException, DataDependentOutputException)

_acc = torch._C._acc
_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
_set = torch.ops.aten.set_.source_Storage_storage_offset


class Hooks(_acc.PrivateUse1Hooks):
    """What PyTorch asks of an accelerator, before anything of it is used."""

    def is_available(self) -> bool:
        """Whether there is a device: there always is one, XLA's CPU client if nothing else."""
        return True

    def has_primary_context(self, dev_id: int) -> bool:
        """Whether device `dev_id` is in use already."""
        return dev_id == 0

    def is_built(self) -> bool:
        """Whether PyTorch has been built for it."""
        return True


class Guard(_acc.DeviceGuard):
    """The current device: there is one."""

    # The device's type. PyTorch asks for it below compiled functions too; a Python function's frame there would be
    # traced by Dynamo, counted by it and reported as a graph break.
    type_ = functools.partial(getattr, torch._C._autograd.DeviceType, "PrivateUse1")


def owner_of_private_use() -> str:
    """The name that PrivateUse1 has in this process; `privateuseone` if nobody took it."""
    return torch._C._get_privateuse1_backend_name()


# The hooks and the guard, which PyTorch holds by address.
_held: list[object] = []


def take_private_use(module: object) -> None:
    """Make PrivateUse1 the device `tpu`, with `module` as torch.tpu."""
    _held.extend((hooks := Hooks(), guard := Guard()))
    backend_registration._setup_privateuseone_for_python_backend(NAME, module, hooks, guard)


def answer(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Put functions, by their names in torch._C, in the place of those that ask a device in C++ and raise for ours.

    There is one accelerator in a process, so nobody else's answers go. PyTorch has no hook for them: a guard made in
    Python can say its device's type alone.
    """
    for name, function in functions.items():
        getattr(torch._C, name)  # a new name upstream is to be noticed
        setattr(torch._C, name, function)


def library(namespace: str, key: str = "PrivateUse1") -> torch.library.Library:
    """A library of kernels for one dispatch key, the device's."""
    return torch.library.Library(namespace, "IMPL", key)


def empty_tensor(
    size: Sequence[int], stride: Sequence[int] | None, dtype: torch.dtype, storage_class: type[torch.UntypedStorage]
) -> torch.Tensor:
    """A tensor on the device, with a storage of its own of the right size and no memory behind it.

    stride: contiguous if None. storage_class: the class of the storage's Python object, which lives as long as it.
    """
    tensor = _acc.create_empty_tensor((0,), dtype)
    storage = tensor.untyped_storage()
    storage.__class__ = storage_class
    _set.redispatch(_META, tensor, storage, 0, size, contiguous_stride(size) if stride is None else stride)
    return tensor


def contiguous_stride(size: Sequence[int]) -> tuple[int, ...]:
    """The strides of a row-major tensor, counted in elements."""
    stride, step = [], 1
    for extent in reversed(size):
        stride.append(step)
        step *= max(extent, 1)
    return tuple(reversed(stride))


def reset_tensor(
    tensor: torch.Tensor, storage: Any, offset: int, size: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    """Make `tensor` a view of `storage`, which grows if it is too small."""
    return _set.redispatch(_META, tensor, storage, offset, size, stride)


def as_view(operator: OpOverload, *args: Any, **kwargs: Any) -> torch.Tensor:
    """What a view operator gives, by its kernel for meta tensors: sizes, strides, and the same storage."""
    return operator.redispatch(_META, *args, **kwargs)


def without_autocast() -> Any:
    """A context in which the device's autocast does nothing."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1))


def overloads_with_prefix(prefix: str) -> list[str]:
    """The names of ATen's operators that begin with `prefix`, with their overloads, as in `_foreach_add.Scalar`."""
    names = []
    for name in torch._C._dispatch_get_all_op_names():
        short = name.removeprefix("aten::")
        if name.startswith("aten::") and short.startswith(prefix):
            names.append(short)
    return names
