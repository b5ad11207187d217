"""JAX functions for operators that write to their arguments: arrays cannot be written to, so they return new values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._torch_compat import OpOverload, pytree
from ..device.overlaps import share_elements
from .jax_operator import JaxOperator
from .operator_schema import parameters_of

# Of the operators that are made here.
_NAMESPACE = "tpu_dynamo_new_values"


@dataclass(frozen=True)
class JaxWrites:
    """A function of tensors that writes to them what a JAX function returns behind the results.

    new_values: the operator of the JAX function. written: the positions of the arguments that are written to. results:
    how many new tensors the operator returns.
    """

    new_values: OpOverload
    written: tuple[int, ...]
    results: int

    def __call__(self, *args: Any) -> list[torch.Tensor]:
        """Return the operator's new tensors. args: all arguments, in the schema's order.

        Raises NotImplementedError for another number of arrays, other shapes, and written tensors that share memory.
        """
        tensors = [each for i in self.written for each in pytree.tree_leaves(args[i]) if isinstance(each, torch.Tensor)]
        if share_elements(tensors):
            raise NotImplementedError(
                "it writes to tensors that share memory, of which a lowering in JAX sees separate copies: write the "
                "lowering in PyTorch's operators, or pass a clone"
            )
        found = self.new_values(*args)
        if len(found) != self.results + len(tensors):
            raise NotImplementedError(
                f"its function of JAX returns {len(found)} arrays: it must return the {self.results} results of the "
                f"operator, and behind them the new values of the {len(tensors)} tensors that it writes to"
            )
        for tensor, value in zip(tensors, found[self.results :], strict=True):
            if tensor.shape != value.shape:
                shapes = f"{list(value.shape)} to one of shape {list(tensor.shape)}"
                raise NotImplementedError(f"its function of JAX gives a new value of shape {shapes}")
            tensor.copy_(value)
        return found[: self.results]


def writes(operator: object) -> bool:
    """Return True for an operator that writes to its arguments."""
    return isinstance(operator, OpOverload) and operator._schema.is_mutable


def jax_writes(operator: OpOverload, function: Callable[..., Any]) -> JaxWrites:
    """Return the function of tensors that does what a JAX function says of an operator that writes to its arguments."""
    schema = operator._schema
    name = f"{_NAMESPACE}::{operator.namespace}_{schema.name.partition('::')[2]}_{operator._overloadname}"
    # What a schema says of memory goes: `Tensor(a0!)? count` is `Tensor? count`.
    plain = re.sub(r"\([a-z]\w*!?( -> [^)]*)?\)", "", str(schema).partition("(")[2])
    written = tuple(i for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write)
    results = sum(result.alias_info is None for result in schema.returns)
    by_keyword = [argument.name for argument in schema.arguments if argument.kwarg_only]
    positional = _ByKeyword(function, len(schema.arguments) - len(by_keyword), tuple(by_keyword))
    return JaxWrites(
        JaxOperator(name, f"({parameters_of(f'({plain}')}) -> Tensor[]", positional).overload, written, results
    )


@dataclass(frozen=True)
class _ByKeyword:
    """A function that is given all its arguments by position, and passes the last ones on by name."""

    function: Callable[..., Any]
    positional: int
    names: tuple[str, ...]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args[: self.positional], **dict(zip(self.names, args[self.positional :], strict=True)))
