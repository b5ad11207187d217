"""Eager calls, on the device, of operators that have a lowering from outside."""

from __future__ import annotations

from typing import Any

import torch

from tpu_dynamo_lowering import writing_lowering

from .._torch_compat import OpOverload, destroy_library, pytree
from ..device import has_device_kernel
from ..device.eager import Eager
from ..device.overlaps import share_elements

# Libraries with the kernels, by the operator's name: a kernel is registered as long as its library lives.
_libraries: dict[str, torch.library.Library] = {}


def run_by_lowering(operator: OpOverload) -> None:
    """Make eager calls of an operator on the device run its lowering, unless the device has a kernel for it.

    The kernels of `torch.library.custom_op` are for all devices, and would run there with the device's tensors.
    """
    if (earlier := _libraries.pop(str(operator), None)) is not None:
        destroy_library(earlier)
    if has_device_kernel(operator):
        return
    eager = Eager()
    arguments = operator._schema.arguments
    defaults = {argument.name: argument.default_value for argument in arguments}
    written = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]

    def call(*args: Any, **kwargs: Any) -> Any:
        if written:
            named = defaults | dict(zip(defaults, args, strict=False)) | kwargs
            if _share_memory(named, written):
                return _in_place(operator, named)
        return eager(operator, *args, **kwargs)

    library = _libraries[str(operator)] = torch.library.Library(operator.namespace, "FRAGMENT")
    library.impl(operator.name().partition("::")[2], torch.compiler.disable(call), "PrivateUse1")


def _share_memory(named: dict[str, Any], written: list[str]) -> bool:
    """Return True if a tensor that a call writes to shares memory with another of its tensors."""
    places = [(name, each) for name, value in named.items() for each in pytree.tree_leaves(value)]
    tensors = [(name in written, each) for name, each in places if isinstance(each, torch.Tensor)]
    return any(
        (writes or other_writes) and share_elements((one, other))
        for i, (writes, one) in enumerate(tensors)
        for other_writes, other in tensors[:i]
    )


def _in_place(operator: OpOverload, named: dict[str, Any]) -> Any:
    """Run a lowering on the tensors themselves, one program for each of its operators: what one writes, another reads.

    Raises NotImplementedError for a lowering in JAX whose written tensors share memory.
    """
    function = writing_lowering(operator)
    assert function is not None
    try:
        with torch.no_grad():
            results = function(**named)
    except NotImplementedError as why:
        raise NotImplementedError(f"{operator}: {why}") from None
    return results[0] if len(results) == 1 else results or None
