"""Calls in terms of their schema: tensors and numbers that are operands, arguments written to, and results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import torch

from tpu_dynamo_lowering import Unsupported, UnsupportedOp, writing_lowering

from ._torch_compat import OpOverload, pytree
from .forms import FORMS

TENSOR = "a tensor"
_NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}
_KINDS = list(_NUMBERS)
_NUMBER_TYPES = ("number", "List[number]", "float")


def _category(dtype: torch.dtype) -> int:
    """Return the index in `_KINDS` of the kind of number that a dtype holds."""
    kind = complex if dtype.is_complex else float if dtype.is_floating_point else bool if dtype == torch.bool else int
    return _KINDS.index(kind)


def _tensors_in(value: Any) -> list[torch.Tensor]:
    values = value if isinstance(value, list | tuple) else (value,)
    return [v for v in values if isinstance(v, torch.Tensor)]


@dataclass(frozen=True)
class Schema:
    """An overload's schema, in the terms that a call needs.

    defaults: the default of each argument, by name and in order. written: names of the arguments that the call writes
    to; outs: those among them that it does not read. returned: for each result the name of the argument that it is,
    None for a new tensor. numbers: names of arguments whose numbers are operands. form: the operator as a function of
    tensors alone, with numbers as tensors, if it has such a form. functional: the overload that writes to nothing;
    typed: True if that overload must be given the dtype of `out`.
    """

    defaults: dict[str, Any]
    written: tuple[str, ...]
    outs: tuple[str, ...]
    returned: tuple[str | None, ...]
    numbers: frozenset[str]
    form: Callable[..., Any] | None
    functional: OpOverload | None
    typed: bool

    def returns(self, named: dict[str, Any], fresh: Sequence[Any]) -> Any:
        """Return a call's results: the arguments that it returns and the new tensors, in their order."""
        new = iter(fresh)
        results = [next(new) if name is None else named[name] for name in self.returned]
        return results[0] if len(results) == 1 else tuple(results) if results else None


@cache
def schema_of(operator: OpOverload) -> Schema:
    """Return the schema of an overload. Raises NotImplementedError for one that returns a view."""
    schema = operator._schema
    infos = {a.name: a.alias_info for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    returned: list[str | None] = []
    for result in schema.returns:
        info = result.alias_info
        if info is not None and not info.is_write:
            raise NotImplementedError(f"{operator} gives a view, and the device has no kernel for it")
        same = [name for name, i in infos.items() if info is not None and i.before_set == info.before_set]
        returned.append(same[0] if same else None)
    kinds = {a.name: str(a.type) for a in schema.arguments}
    # Of other libraries' operators nothing says that they do not read what they write to.
    outs = tuple(a.name for a in schema.arguments if a.name in infos and a.kwarg_only and operator.namespace == "aten")
    base = schema.name.removeprefix("aten::").rstrip("_")
    form = _form(base, schema.overload_name or "default", [name for name in kinds if name not in outs])
    numbers = {name for name, kind in kinds.items() if kind == "Tensor" and name not in infos}
    if form is not None:
        numbers |= {name for name, kind in kinds.items() if kind in _NUMBER_TYPES}
    pure = _functional_overload(operator, outs)
    typed = bool(outs) and pure is not None and "dtype" in {a.name for a in pure._schema.arguments} - kinds.keys()
    return Schema(
        {a.name: a.default_value for a in schema.arguments},
        tuple(infos),
        outs,
        tuple(returned),
        frozenset(numbers),
        form,
        pure,
        typed,
    )


def _form(base: str, overload: str, names: Sequence[str]) -> Callable[..., Any] | None:
    single = FORMS.get(f"{base}.{overload}") or FORMS.get(base.removeprefix("_foreach_"))
    if single is None:
        return None
    if base.startswith("_foreach_"):
        return _each(single)
    return single if set(names) <= set(inspect.signature(single).parameters) else None


def _each(single: Callable[..., Any]) -> Callable[..., Any]:
    """Return a form on lists: one call of `single` for each index; arguments that are no lists go to every call."""

    def each(*args: Any) -> list[Any]:
        rows = [
            list(a.unbind()) if isinstance(a, torch.Tensor) and a.ndim == 1 and len(a) == len(args[0]) and i else a
            for i, a in enumerate(args)
        ]
        return [single(*(a[k] if isinstance(a, list) else a for a in rows)) for k in range(len(args[0]))]

    return each


def _functional_overload(operator: OpOverload, outs: Sequence[str]) -> OpOverload | None:
    """Return the overload with the same arguments that writes to none; of several that with the fewest others."""
    schema = operator._schema
    packet = getattr(torch.ops.aten, schema.name.removeprefix("aten::").rstrip("_"), None)
    if packet is None or not schema.name.startswith("aten::"):
        return None
    wanted = {(a.name, str(a.type)) for a in schema.arguments if a.name not in outs}
    found: dict[int, OpOverload] = {}
    for name in packet.overloads():
        other = getattr(packet, name)._schema.arguments
        pure = not any(a.alias_info is not None and a.alias_info.is_write for a in other)
        # A factory's functional overload has a dtype and a device besides.
        beyond = [a for a in other if (a.name, str(a.type)) not in wanted]
        if pure and len(other) - len(beyond) == len(wanted) and all(a.has_default_value() for a in beyond):
            found.setdefault(len(beyond), getattr(packet, name))
    return found[min(found)] if found else None


class Arguments:
    """A call's arguments by name, separated into tensors, numbers among them, and the rest.

    Dispatch leaves out arguments that equal their defaults: here each has its value. tensors: in the order of the
    arguments; key: everything else, hashable. written: the tensors that the call writes to. generator: the one that
    the call draws from, None for the device's own.
    """

    def __init__(self, schema: Schema, args: Sequence[Any], kwargs: dict[str, Any]):
        self.named = schema.defaults | dict(zip(schema.defaults, args, strict=False)) | kwargs
        self.generator: torch.Generator | None = None
        self.tensors: list[torch.Tensor] = []
        self._numbers: set[int] = set()
        self._outs = schema.outs
        self._has_form = schema.form is not None
        self.key = tuple((n, self._take(v, n in schema.numbers)) for n, v in self.named.items() if n not in schema.outs)
        self.written = [tensor for name in schema.written for tensor in _tensors_in(self.named.get(name))]
        if schema.typed:
            self.key += (("dtype", (torch.dtype, self.written[0].dtype)),)

    def is_number(self, tensor: torch.Tensor) -> bool:
        """Return True if a tensor stands for numbers of the call."""
        return id(tensor) in self._numbers

    def _take(self, value: Any, number: bool) -> Any:
        if isinstance(value, torch.Tensor):
            self.tensors.append(value)
            return TENSOR
        if isinstance(value, list | tuple):
            if number and value and all(isinstance(v, int | float) for v in value):
                dtype = self._dtype_of(value)
                if dtype is not None:
                    return self._take_number(torch.tensor(value, dtype=dtype, device="cpu"))
            return tuple(self._take(v, number) for v in value)
        # One is common in the forms and changes nothing there: a program without it is shorter.
        if number and type(value) in _NUMBERS and not (self._has_form and value == 1):
            dtype = self._dtype_of([value])
            if dtype is not None:
                return self._take_number(torch.tensor(value, dtype=dtype, device="cpu"))
        if isinstance(value, torch.Generator):
            self.generator, value = value, None
        # Floats by their bits: -0.0 is another constant than 0.0, and nan is the same as nan.
        return (float, value.hex()) if type(value) is float else (type(value), value)

    def _dtype_of(self, numbers: Sequence[Any]) -> torch.dtype | None:
        """Return the dtype for these numbers as 0-d tensors that promotes as they do; None if they do not fit it.

        Beside a tensor with dimensions of their category or a higher one, a 0-d tensor's dtype has no effect, so it is
        the widest of its category; otherwise it is the dtype of the result.
        """
        kind = max((type(n) for n in numbers), key=_KINDS.index)
        whole = torch.iinfo(torch.int64)
        if kind is int and not all(whole.min <= n <= whole.max for n in numbers):
            return None
        met = [t for name, v in self.named.items() if name not in self._outs for t in _tensors_in(v)]
        if not met or any(t.ndim and _category(t.dtype) >= _KINDS.index(kind) for t in met):
            return _NUMBERS[kind]
        result = reduce(torch.promote_types, (torch.result_type(t, kind(0)) for t in met))
        if result == torch.bool or _category(result) > _KINDS.index(int):
            return result
        bounds = torch.iinfo(result)
        return result if all(bounds.min <= n <= bounds.max for n in numbers) else None

    def _take_number(self, tensor: torch.Tensor) -> str:
        self.tensors.append(tensor)
        self._numbers.add(id(tensor))
        return TENSOR

    def rebuilt(self, tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return the arguments by name, without `out`s, with `tensors` in the places of their own and on the CPU."""
        given = iter(tensors)

        def build(value: Any) -> Any:
            if value is TENSOR:
                return next(given)
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type):
                if value[0] is float:
                    return float.fromhex(value[1])
                return torch.device("cpu") if value[0] is torch.device else value[1]
            return [build(v) for v in value]

        return {name: build(value) for name, value in self.key}


def functional(operator: OpOverload, schema: Schema, named: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Call an operator without side effects; return its new results, and new values of the arguments it writes to."""
    if schema.form is not None or schema.functional is not None:
        if schema.form is not None:
            results = schema.form(*named.values())
        else:
            assert schema.functional is not None
            results = schema.functional(**named)
        values = list(results) if isinstance(results, tuple) else [results]
        written = [name for name in schema.written if name in schema.outs or named.get(name) is not None]
        if not written:
            return values, []
        if len(values) == len(written):
            return [], pytree.tree_leaves(values)
        if len(values) == len(schema.returned):
            pairs = list(zip(values, schema.returned, strict=True))
            return [v for v, name in pairs if name is None], [v for v, name in pairs if name is not None]
        return values[: len(schema.returned)], pytree.tree_leaves(values[len(schema.returned) :])
    if schema.outs:
        raise UnsupportedOp([Unsupported(str(operator), "no overload gives its result as a new tensor", "", None)])
    copies = {
        name: pytree.tree_map_only(torch.Tensor, torch.clone, value) if name in schema.written else value
        for name, value in named.items()
    }
    results = (writing_lowering(operator) or operator)(**copies)
    values = list(results) if isinstance(results, tuple) else [results]
    fresh = [v for v, name in zip(values, schema.returned, strict=False) if name is None]
    return fresh, [tensor for name in schema.written for tensor in _tensors_in(copies[name])]
