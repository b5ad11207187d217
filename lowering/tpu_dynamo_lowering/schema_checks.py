"""Comparing the parameters of a Python function with the schema of an operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from ._torch_compat import OpOverload

# What a kernel may ask for by keyword, besides what the schema has: the Target of the program.
COMPILED_FOR = "compiled_for"


@cache
def mismatch(function: Callable[..., Any], overload: OpOverload) -> str | None:
    """Say why a function cannot take every call that a schema allows: names, defaults, or what may be positional.

    None if it can. A function of *args or **kwargs binds the arguments itself. Positional-only parameters have any
    names: releases of torch spell some otherwise, and graphs pass what may be positional by its position.
    """
    given = {name: p for name, p in inspect.signature(function).parameters.items() if name != COMPILED_FOR}
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given.values()):
        return None
    schema = overload._schema.arguments
    if not _spelt_alike([*given.values()], schema):
        return f"{function.__qualname__}{[*given]} is not spelt as the schema of {overload}: {[a.name for a in schema]}"
    for parameter, argument in zip(given.values(), schema, strict=True):
        where = f"{function.__qualname__}: parameter {argument.name!r} of {overload}"
        if argument.has_default_value() and not _is_default(parameter.default, argument):
            return f"{where} has the default {argument.default_value!r} in the schema"
        if parameter.kind is parameter.KEYWORD_ONLY and not argument.kwarg_only:
            return f"{where} may be positional in the schema"
    return None


def _spelt_alike(given: list[inspect.Parameter], schema: Any) -> bool:
    """Tell whether a schema has as many arguments, with the names of all parameters that are passed by name."""
    return len(given) == len(schema) and all(
        parameter.name == argument.name or (parameter.kind is parameter.POSITIONAL_ONLY and not argument.kwarg_only)
        for parameter, argument in zip(given, schema, strict=True)
    )


def _is_default(value: Any, argument: Any) -> bool:
    """Tell whether a Python default is that of a schema's argument, which has lists for tuples, numbers for dtypes."""
    expected = argument.default_value
    if isinstance(value, torch.dtype):
        return "ScalarType" in str(argument.real_type) and isinstance(expected, int)
    return (
        list(value) == expected
        if isinstance(value, tuple)
        else value is not inspect.Parameter.empty and value == expected
    )
