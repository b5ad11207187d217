"""Factors that PyTorch takes as Python numbers, given as tensors: for one trace, as Dynamo does for optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..device.forms import lerp

Tensors = Any


class TensorNumbers(TorchFunctionMode):
    """Within it `alpha`, `value`, `scalars` and `weight` of operators may be tensors without dimensions.

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
        rewritten = _REPLACEMENTS.get(name)
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
    return self.copy_(lerp(self, end, weight))


def _each(single: Callable[..., Tensors]) -> Callable[..., list[Tensors]]:
    def each(self: list[Tensors], *operands: Any, **factors: Any) -> list[Tensors]:
        results = []
        for i, one in enumerate(self):
            row = [o[i] if isinstance(o, list | tuple) or _is_vector(o, len(self)) else o for o in operands]
            number = [f[i] if isinstance(f, list | tuple) or _is_vector(f, len(self)) else f for f in factors.values()]
            results.append(single(one, *row, *number))
        return results

    return each


def _is_vector(value: Any, length: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 1 and len(value) == length


_IN_PLACE_FORMS = {"add": _add, "sub": _sub, "addcmul": _addcmul, "addcdiv": _addcdiv}
_FUNCTIONAL_FORMS: dict[str, Callable[..., Tensors]] = {
    "add": lambda self, other, alpha=1: self + other * alpha,
    "sub": lambda self, other, alpha=1: self - other * alpha,
    "addcmul": lambda self, tensor1, tensor2, value=1: self + tensor1 * tensor2 * value,
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + tensor1 / tensor2 * value,
}
_REPLACEMENTS: dict[str, Callable[..., Any]] = {"lerp_": _lerp}
for _name in _IN_PLACE_FORMS:
    _REPLACEMENTS |= {f"{_name}_": _IN_PLACE_FORMS[_name], f"_foreach_{_name}_": _each(_IN_PLACE_FORMS[_name])}
    _REPLACEMENTS |= {_name: _FUNCTIONAL_FORMS[_name], f"_foreach_{_name}": _each(_FUNCTIONAL_FORMS[_name])}
