"""Descriptions of Python objects that are equal in every process, and look-up of objects by the names of guards.

Dynamo guards functions, classes and modules by their addresses, which mean nothing in another process. Their names and
a digest of their code do.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

Description = list[str]


def describe(value: object) -> Description | None:
    """Return words for an object that are equal in every process with the same object; None if there are none.

    There are words for modules, classes, functions, code, enumerations' members and plain constants.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return ["value", type(value).__name__, repr(value)]
    if inspect.ismodule(value):
        return ["module", value.__name__]
    if inspect.iscode(value):
        return ["code", value.co_qualname, code_digest(value)]
    if inspect.isfunction(value):
        return ["function", value.__module__, value.__qualname__, code_digest(value.__code__)]
    if inspect.isclass(value) and "<locals>" not in value.__qualname__:
        return ["class", value.__module__, value.__qualname__]
    if inspect.isbuiltin(value):
        return ["builtin", str(value.__module__), value.__qualname__]
    return None


def code_digest(code: types.CodeType) -> str:
    """Return a digest of a code object without its file and line numbers."""
    found = hashlib.sha256(code.co_code)
    constants = [code_digest(c) if inspect.iscode(c) else _constant(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars)
    found.update(repr((constants, names, code.co_argcount, code.co_kwonlyargcount, code.co_flags)).encode())
    return found.hexdigest()


def _constant(value: object) -> str:
    # The order of a set of strings differs from process to process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


# Functions that names of guards may call.
_CALLS: Mapping[str, Callable[..., Any]] = {
    "type": type, "dict": dict, "list": list, "tuple": tuple, "len": len,
    "dict.__getitem__": dict.__getitem__, "dict.keys": dict.keys, "dict.values": dict.values,
}  # fmt: skip


def find(name: str, scopes: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the object that a guard names, as `L['self'].layers[0].act`.

    scopes: the values of `L` and `G`. Nothing is evaluated but attributes, items, and calls of a few builtins. Raises
    LookupError for any other name, and for one that leads nowhere.
    """
    try:
        return _value(ast.parse(name, mode="eval").body, scopes)
    except (AttributeError, KeyError, IndexError, TypeError, SyntaxError) as error:
        raise LookupError(f"{name}: {error}") from error


def _value(node: ast.expr, scopes: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in scopes:
        return scopes[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, scopes), node.attr)
    if isinstance(node, ast.Subscript):
        return _value(node.value, scopes)[_value(node.slice, scopes)]
    if isinstance(node, ast.Call) and not node.keywords and (called := _CALLS.get(ast.unparse(node.func))):
        return called(*(_value(argument, scopes) for argument in node.args))
    raise LookupError(f"{ast.unparse(node)} is not looked up")
