"""Factors that PyTorch takes as Python numbers, given as tensors: for one trace, as Dynamo does for optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Tensors = Any


class TensorNumbers(TorchFunctionMode):
    """Within it `alpha`, `value`, `scalars` and `weight` of in-place operators may be tensors without dimensions.

    nonzero: by the id of a tensor that is a number, the answer to a comparison with zero, on which optimizers branch.
    """

    def __init__(self, nonzero: Mapping[int, bool]):
        super().__init__()
        self._nonzero = nonzero

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call; one whose factor is a tensor is made in terms of operators that take tensors."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("__eq__", "__ne__", "eq", "ne") and id(args[0]) in self._nonzero and args[1] == 0:
            return self._nonzero[id(args[0])] == ("ne" in name)
        rewritten = _WITHOUT_FACTOR.get(name)
        if rewritten is not None and _has_tensor_number(name, args, kwargs):
            return rewritten(*args, **kwargs)
        return func(*args, **kwargs)


def _has_tensor_number(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    place = 3 if "addc" in name else 2
    given = [*args[place:], *(kwargs[k] for k in ("alpha", "value", "scalars") if k in kwargs)]
    return any(isinstance(v, torch.Tensor) for one in given for v in (one if isinstance(one, list | tuple) else [one]))


def _add(self: Tensors, other: Tensors, alpha: Tensors = 1) -> Tensors:
    return self.add_(other * alpha)


def _sub(self: Tensors, other: Tensors, alpha: Tensors = 1) -> Tensors:
    return self.sub_(other * alpha)


def _addcmul(self: Tensors, tensor1: Tensors, tensor2: Tensors, value: Tensors = 1) -> Tensors:
    return self.add_(tensor1 * tensor2 * value)


def _addcdiv(self: Tensors, tensor1: Tensors, tensor2: Tensors, value: Tensors = 1) -> Tensors:
    return self.add_(tensor1 / tensor2 * value)


def _lerp(self: Tensors, end: Tensors, weight: Tensors) -> Tensors:
    return self.add_((end - self) * weight)


def _each(single: Callable[..., Tensors]) -> Callable[..., None]:
    def each(self: list[Tensors], *operands: Any, **factors: Any) -> None:
        for i, one in enumerate(self):
            row = [o[i] if isinstance(o, list | tuple) or _is_vector(o, len(self)) else o for o in operands]
            number = [f[i] if isinstance(f, list | tuple) or _is_vector(f, len(self)) else f for f in factors.values()]
            single(one, *row, *number)

    return each


def _is_vector(value: Any, length: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 1 and len(value) == length


_WITHOUT_FACTOR: dict[str, Callable[..., Any]] = {
    "lerp_": _lerp,
    "add_": _add,
    "sub_": _sub,
    "addcmul_": _addcmul,
    "addcdiv_": _addcdiv,
    "_foreach_add_": _each(_add),
    "_foreach_sub_": _each(_sub),
    "_foreach_addcmul_": _each(_addcmul),
    "_foreach_addcdiv_": _each(_addcdiv),
}
