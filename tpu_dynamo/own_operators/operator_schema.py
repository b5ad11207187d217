"""The schema of an operator, from the signature of a JAX function."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

import jax
import torch

_WORDS = {
    jax.Array: "Tensor", torch.Tensor: "Tensor", bool: "bool", int: "SymInt", float: "float", str: "str",
    torch.dtype: "ScalarType", inspect.Parameter.empty: "Tensor",
}  # fmt: skip
_LISTS = (list, tuple, Sequence)


def schema_of(function: Callable[..., Any]) -> str:
    """Return the part of an operator's schema behind its name, as `(Tensor x, SymInt n=1) -> Tensor`.

    Parameters without annotation, and results, are tensors; `int`, `float`, `bool`, `str` and `torch.dtype` are static,
    and so are lists and tuples of them; `list[jax.Array]` is a list of tensors. Raises TypeError for other annotations.
    """
    hints = get_type_hints(function)
    words, marked = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__qualname__}: an operator has no *{name}; take a list of arrays, or a schema")
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            words, marked = [*words, "*"], True
        place = f"{function.__qualname__}: parameter {name!r}"
        kind = _type(hints.get(name, inspect.Parameter.empty), place)
        if parameter.default is None and not kind.endswith("?"):
            kind += "?"
        if marked and kind.startswith("Tensor"):
            raise TypeError(f"{place} is a tensor, which PyTorch takes by position")
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.default, place)}"
        words.append(f"{kind} {name}{default}")
    return f"({', '.join(words)}) -> {_results(hints.get('return', jax.Array), function)}"


def _type(hint: Any, place: str) -> str:
    if hint in _WORDS:
        return _WORDS[hint]
    inner = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        return _type(next(each for each in inner if each is not type(None)), place) + "?"
    if get_origin(hint) in _LISTS and inner and inner[0] in _WORDS:
        return f"{_WORDS[inner[0]]}[]"
    raise TypeError(f"{place} is annotated {hint}, which is no type of an operator's; give a schema")


def _default(value: Any, place: str) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_default(each, place) for each in value)}]"
    if isinstance(value, str):
        return f'"{value}"'
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    raise TypeError(f"{place} has the default {value!r}, which no schema can have; give None, and decide inside")


def _results(hint: Any, function: Callable[..., Any]) -> str:
    inner = get_args(hint)
    if get_origin(hint) is tuple and Ellipsis not in inner:
        return f"({', '.join(_type(each, f'{function.__qualname__}: a result') for each in inner)})"
    return _type(hint, f"{function.__qualname__}: the result")


def parameters_of(schema: str) -> str:
    """Return a schema's parameters without defaults, all of them positional, for an operator that takes more."""
    inside = schema[1 : schema.rindex(") ->")]
    words = [word for word in re.split(r",\s*(?![^\[]*\])", inside) if word and word != "*"]
    return ", ".join(word.partition("=")[0] for word in words)
