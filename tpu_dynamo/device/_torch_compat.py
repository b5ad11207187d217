# pyright: reportAttributeAccessIssue=false
"""The device's one door to PyTorch's private APIs: PrivateUse1 in Python, storages, redispatching."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import _tensor_str
from torch._dynamo.eval_frame import skip_code
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
from torch.nn.attention import flex_attention as flex
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

__all__ = [
    "DATA_DEPENDENT",
    "NAME",
    "NO_FAKE_TENSOR",
    "OpOverload",
    "answer",
    "as_view",
    "bookkeeping_of_sparse_tensors",
    "contiguous_stride",
    "empty_tensor",
    "has_device_kernel",
    "library",
    "make_generators_of_device",
    "overloads_with_prefix",
    "owner_of_private_use",
    "print_from",
    "pytree",
    "register_backend",
    "reset_tensor",
    "runs_on_cpu",
    "share_storage",
    "shared_storage",
    "take_flex_attention",
    "take_private_use",
    "unseen_by_dynamo",
    "without_autocast",
]

NAME = "tpu"

# Errors of tracing for an operator whose result's size or value depends on data.
DATA_DEPENDENT = (DynamicOutputShapeException, DataDependentOutputException)

# The error of tracing for an operator whose result is of a kind that fake tensors have not, as of a quantised dtype.
NO_FAKE_TENSOR = UnsupportedFakeTensorException

_acc = torch._C._acc
_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
_SPARSE = torch._C.DispatchKeySet(torch._C.DispatchKey.SparseCPU)
_set = torch.ops.aten.set_.source_Storage_storage_offset


class Hooks(_acc.PrivateUse1Hooks):
    """The answers that PyTorch needs from an accelerator before it uses it."""

    def is_available(self) -> bool:
        """Return True: there always is a device, XLA's CPU client if nothing else."""
        return True

    def has_primary_context(self, dev_id: int) -> bool:
        """Return True for device 0, the only one, which needs no context to be made."""
        return dev_id == 0

    def is_built(self) -> bool:
        """Return True: PyTorch needs no build of its own for the device."""
        return True


# The number of the device's type.
PRIVATE_USE = int(torch._C._autograd.DeviceType.PrivateUse1)


class Guard(_acc.DeviceGuard):
    """The current device: there is one."""

    # The device's type. PyTorch asks for it below compiled functions too; a Python function's frame there would be
    # traced by Dynamo, counted by it and reported as a graph break.
    type_ = staticmethod(functools.partial(getattr, torch._C._autograd.DeviceType, "PrivateUse1"))


def owner_of_private_use() -> str:
    """Return the name that PrivateUse1 has in this process; `privateuseone` if no package took it."""
    return torch._C._get_privateuse1_backend_name()


# The hooks and the guard, which PyTorch holds by address.
_held: list[object] = []


def take_private_use(module: object) -> None:
    """Make PrivateUse1 the device `tpu`, with `module` as torch.tpu."""
    _held.extend((hooks := Hooks(), guard := Guard()))
    backend_registration._setup_privateuseone_for_python_backend(NAME, module, hooks, guard)


def answer(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Put functions, by their names in torch._C, in the place of those that ask a device in C++ and raise for ours.

    There is one accelerator in a process, so no other device loses its answers. PyTorch has no hook for them: a guard
    made in Python can say its device's type alone.
    """
    for name, function in functions.items():
        getattr(torch._C, name)  # raises if PyTorch has renamed it
        setattr(torch._C, name, function)


def unseen_by_dynamo(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function after telling Dynamo to leave its frames alone, which costs a call nothing."""
    skip_code(function.__code__)
    return function


def register_backend(name: str, device: str, create: Callable[..., Any]) -> None:
    """Make a backend known to torch.distributed as a device's own."""
    from torch.distributed import distributed_c10d  # not on every platform

    distributed_c10d.Backend.register_backend(name, create, extended_api=True, devices=[device])


def print_from(copy: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Print what `copy` returns for a tensor of the device.

    PyTorch's printing calls a dozen operators, each of them a program here. It copies tensors of some devices to the
    CPU first, which it lists by name. Its private function changes nothing else, and no tensor of another device.
    """
    original = _tensor_str._tensor_str

    @functools.wraps(original)
    def printed(self: torch.Tensor, indent: int) -> str:
        return original(copy(self) if self.device.type == NAME else self, indent)

    _tensor_str._tensor_str = printed


class _KindOfGenerator(type(torch._C.Generator)):
    """The class of torch.Generator once it makes the device's: PyTorch's own generators are instances of it too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, torch._C.Generator)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, torch._C.Generator)


def make_generators_of_device(make: Callable[[], torch.Generator]) -> None:
    """Let `torch.Generator(device)` return what `make` does for the device, and PyTorch's own for every other one.

    `torch._C.Generator` asks a hook in C++, `PrivateUse1HooksInterface::getNewGenerator`, which PyTorch 2.13 lets
    nobody override in Python (its `PrivateUse1Hooks` can be asked three things), and a class of C's cannot be changed.
    So the name in `torch` becomes a class that only chooses; generators of other devices have the class that they had.
    """

    class Generator(torch._C.Generator, metaclass=_KindOfGenerator):
        __doc__ = torch._C.Generator.__doc__

        def __new__(cls, device: Any = None) -> torch.Generator:
            chosen = torch.device("cpu" if device is None else device)
            return make() if chosen.type == NAME else torch._C.Generator(chosen)

    Generator.__module__, Generator.__qualname__ = "torch", "Generator"
    torch.Generator = Generator


def library(namespace: str, key: str = "PrivateUse1") -> torch.library.Library:
    """Return an empty library of kernels for one dispatch key, by default the device's."""
    return torch.library.Library(namespace, "IMPL", key)


def wrap_meta_kernel(
    library: torch.library.Library,
    operator: OpOverload,
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> None:
    """Replace PyTorch's kernel of an operator for meta tensors, one written in Python, by what `wrap` makes of it.

    It is in two tables: that of the dispatcher in C++, and that of the one in Python, which is on while Dynamo traces.
    """
    kernel = operator.py_kernels[torch._C.DispatchKey.Meta] = wrap(operator.py_kernels[torch._C.DispatchKey.Meta])
    operator._dispatch_cache.clear()
    library.impl(operator, kernel)


def empty_tensor(
    size: Sequence[int], stride: Sequence[int] | None, dtype: torch.dtype, storage_class: type[torch.UntypedStorage]
) -> torch.Tensor:
    """Return a tensor on the device, with a storage of its own of the right size and no memory behind it.

    stride: contiguous if None. storage_class: the class of the storage's Python object, which lives as long as it.
    """
    tensor = _acc.create_empty_tensor((0,), dtype)
    storage = tensor.untyped_storage()
    storage.__class__ = storage_class
    _set.redispatch(_META, tensor, storage, 0, size, contiguous_stride(size) if stride is None else stride)
    return tensor


def shared_storage(size: int, device: Any) -> torch.UntypedStorage:
    """Return a storage of so many bytes of the host that other processes can be given."""
    return torch.UntypedStorage._new_shared(size, device=device)


def contiguous_stride(size: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a row-major tensor, counted in elements."""
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
    """Call a view operator by its kernel for meta tensors; the result has the same storage, and sizes and strides."""
    return operator.redispatch(_META, *args, **kwargs)


def bookkeeping_of_sparse_tensors(name: str) -> Callable[..., Any]:
    """Return a call of an ATen operator's kernel for sparse CPU tensors, for one that is the same on every device."""
    base, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, base), overload or "default")
    return lambda *args, **kwargs: operator.redispatch(_SPARSE, *args, **kwargs)


def share_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return True if two tensors are in one storage, be they real, fake or of a functional trace."""
    return torch._C._is_alias_of(one, other)


def has_device_kernel(operator: OpOverload) -> bool:
    """Return True if an operator has a kernel that was registered for the device itself."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "PrivateUse1")


def runs_on_cpu(operator: OpOverload) -> bool:
    """Return True for an operator that PyTorch has a kernel of for CPU tensors, its own or one for all devices."""
    return torch._C._dispatch_has_computed_kernel_for_dispatch_key(operator.name(), "CPU")


def without_autocast() -> Any:
    """Return a context in which the device's autocast does nothing."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1))


def take_flex_attention() -> None:
    """Let `flex_attention` take tensors on the device, also in autocast regions.

    PyTorch asks for the device's type by a list in Python, and has autocast rules of its own devices only.
    """
    refuse = flex._validate_device

    def validate_device(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        if query.device.type != NAME:
            refuse(query, key, value)

    flex._validate_device = validate_device
    operator = torch.ops.higher_order.flex_attention

    @operator.py_impl(torch._C.DispatchKey.AutocastPrivateUse1)
    def in_autocast(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
        lower = (each.to(torch.get_autocast_dtype(NAME)) for each in (query, key, value))
        with without_autocast():
            return operator(*lower, *rest, **kwargs)


def overloads_with_prefix(prefix: str) -> list[str]:
    """Return the names of ATen's operators that begin with `prefix`, with overloads, as in `_foreach_add.Scalar`."""
    names = []
    for name in torch._C._dispatch_get_all_op_names():
        short = name.removeprefix("aten::")
        if name.startswith("aten::") and short.startswith(prefix):
            names.append(short)
    return names
