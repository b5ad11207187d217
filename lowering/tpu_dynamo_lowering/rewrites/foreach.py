"""Operators on lists of tensors, which optimisers use: the operator of single tensors for each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._torch_compat import OpOverload
from ..table import How, Lowering, add

aten = torch.ops.aten


def _largest(self: Tensor, other: Any) -> Tensor:
    return torch.maximum(self, other) if isinstance(other, Tensor) else torch.clamp_min(self, other)


def _smallest(self: Tensor, other: Any) -> Tensor:
    return torch.minimum(self, other) if isinstance(other, Tensor) else torch.clamp_max(self, other)


def _norm(self: Tensor, ord: float = 2, dtype: torch.dtype | None = None) -> Tensor:
    return torch.linalg.vector_norm(self, ord, dtype=dtype)


def _addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Tensor:
    product = tensor1 * tensor2
    return self + value * product if isinstance(value, Tensor) else torch.addcmul(self, tensor1, tensor2, value=value)


def _addcdiv(self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Tensor:
    quotient = tensor1 / tensor2
    return self + value * quotient if isinstance(value, Tensor) else torch.addcdiv(self, tensor1, tensor2, value=value)


_SAME_NAME = (
    "abs", "acos", "add", "asin", "atan", "ceil", "clamp_max", "clamp_min", "cos", "cosh", "div", "erf", "erfc", "exp",
    "expm1", "floor", "frac", "lerp", "lgamma", "log", "log10", "log1p", "log2", "max", "mul", "neg", "pow",
    "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "sub", "tan", "tanh", "trunc",
)  # fmt: skip

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {name: getattr(torch, name) for name in _SAME_NAME} | {
    "addcdiv": _addcdiv,
    "addcmul": _addcmul,
    "clone": torch.clone,
    "copy": aten.copy.default,
    "maximum": _largest,
    "minimum": _smallest,
    "norm": _norm,
    "zero": torch.zeros_like,
}


def _over_lists(function: Callable[..., Tensor], overload: OpOverload) -> Callable[..., list[Tensor]]:
    """Return a function that calls `function` for each position of an overload's lists.

    Arguments that are no lists are passed on unchanged.
    """
    arguments = overload._schema.arguments
    positional = [argument.name for argument in arguments if not argument.kwarg_only]

    def compute(*args: Any, **kwargs: Any) -> list[Tensor]:
        given = dict(zip(positional, args, strict=False)) | kwargs
        if isinstance(given.get("scalars"), Tensor):
            given["scalars"] = list(given["scalars"].unbind())
        count = next(len(value) for value in given.values() if isinstance(value, list | tuple))
        results = []
        for i in range(count):
            here = {name: value[i] if isinstance(value, list | tuple) else value for name, value in given.items()}
            named = {name: value for name, value in here.items() if name in ("alpha", "dtype", "memory_format")}
            results.append(function(*(value for name, value in here.items() if name not in named), **named))
        return results

    return compute


def _enter() -> None:
    for name, function in _FUNCTIONS.items():
        packet = getattr(aten, f"_foreach_{name}", None)
        for overload in packet.overloads() if packet is not None else ():
            target = getattr(packet, overload)
            if not target._schema.is_mutable:
                reason = "the operator of single tensors, once for each position of the lists."
                add(Lowering(target, How.REWRITE, reason, _over_lists(function, target)))


_enter()
