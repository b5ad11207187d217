"""Digests of Python functions: of their code, and of all that the code calls and reads.

What belongs to an installed package, or to Python, is named with its version; everything else is read to the end.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
import torch

from ._torch_compat import OpOverload, operators_of

_OURS = __name__.partition(".")[0]
_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, np.dtype,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
# What is written in C, and named by its library.
_BUILT_IN = ("builtin_function_or_method", "ufunc", "method_descriptor", "wrapper_descriptor")
_NO_STATE = ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__")


class NoStableKey(ValueError):
    """A graph, or a lowering, holds something that has no key that means the same in every process."""


# Returns the digest of the lowering of an operator that the code calls, None where it has none.
Follow = Callable[[OpOverload], str | None]


def digest_of(function: Callable[..., Any], follow: Follow = lambda operator: None) -> str:
    """Return a digest of a function's meaning: equal digests, equal results.

    Raises NoStableKey that names what in it has no digest, as an open file or a module that is passed on whole.
    """
    return _read(function, follow, getattr(function, "__qualname__", type(function).__name__))


def _read(value: Any, follow: Follow, place: str) -> str:
    reader = _Reader(follow)
    reader.value(value, place)
    return reader.hash.hexdigest()


class _Reader:
    """Reads one function; what it met before is a number, so that functions may call each other."""

    def __init__(self, follow: Follow):
        self.hash = hashlib.sha256()
        self._follow = follow
        self._met: dict[int, tuple[int, object]] = {}

    def word(self, *words: object) -> None:
        self.hash.update("\0".join(map(str, words)).encode() + b"\1")

    def value(self, value: Any, place: str) -> None:
        """Read any value. place: how the code comes to it, for messages."""
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            self.word(type(value).__name__, repr(value))
            return
        if id(value) in self._met:
            self.word("again", self._met[id(value)][0])
            return
        self._met[id(value)] = len(self._met), value
        if (operators := operators_of(value)) is not None:
            for operator in operators:
                self.word("operator", operator, self._follow(operator))
        elif isinstance(value, ModuleType):
            self._module(value, place)
        elif isinstance(value, np.ndarray | np.generic | jax.Array) or type(value) in (
            torch.Tensor,
            torch.nn.Parameter,
        ):
            self._array(value)
        elif (named := _named_by_library(value)) is not None:
            self.word("library", named)
        elif isinstance(value, tuple | list):
            self.word(type(value).__name__, len(value))
            for i, each in enumerate(value):
                self.value(each, f"{place}[{i}]")
        elif isinstance(value, Mapping):
            self.word("mapping", len(value))
            for key, each in value.items():
                self.value(key, f"a key of {place}")
                self.value(each, f"{place}[{key!r}]")
        elif isinstance(value, set | frozenset):
            self.word("set", *sorted(_read(each, self._follow, f"an element of {place}") for each in value))
        elif isinstance(value, enum.Enum):
            self.word("member", value.name)
            self.value(type(value), f"the type of {place}")
        else:
            self._code(value, place)

    def _module(self, module: ModuleType, place: str) -> None:
        if (library := _library(module.__name__)) is None:
            raise NoStableKey(f"{place} passes on the module {module.__name__} whole: name what it calls there")
        self.word("module", module.__name__, library)

    def _array(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
            data, dtype = plain.reshape(-1).view(torch.uint8).numpy(), value.dtype
        else:
            data, dtype = np.asarray(value), value.dtype
        self.word("array", dtype, tuple(value.shape))
        self.hash.update(np.ascontiguousarray(data).tobytes())

    def _code(self, value: Any, place: str) -> None:
        """Read functions, classes, and objects by what they hold."""
        if isinstance(value, FunctionType):
            self.word("function")
            self.value((value.__defaults__, value.__kwdefaults__), f"the defaults of {place}")
            cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
            self._instructions(value.__code__, value, cells, place)
        elif isinstance(value, MethodType):
            self.value((value.__func__, value.__self__), place)
        elif isinstance(value, functools.partial):
            self.value((value.func, value.args, value.keywords), place)
        elif isinstance(value, staticmethod | classmethod):
            self.value(value.__func__, place)
        elif isinstance(value, property):
            self.value((value.fget, value.fset), place)
        elif isinstance(value, type):
            self.word("class", value.__qualname__)
            self.value(value.__bases__, f"the bases of {place}")
            for name, each in vars(value).items():
                if name not in _NO_STATE and type(each).__name__ not in ("getset_descriptor", "member_descriptor"):
                    self.word(name)
                    self.value(each, f"{place}.{name}")
        else:
            self._object(value, place)

    def _object(self, value: Any, place: str) -> None:
        state = {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}
        wrapped = getattr(value, "__wrapped__", None)
        if type(value).__name__ == "PjitFunction":  # of jax.jit, whose settings change no result
            self.word("jit")
            self.value(wrapped, place)
            return
        state |= getattr(value, "__dict__", {})
        if not state and wrapped is None and not hasattr(value, "__dict__"):
            raise NoStableKey(f"{place} is a {type(value).__qualname__}, which has no digest")
        self.word("object")
        self.value(type(value), f"the type of {place}")
        if wrapped is not None:
            self.value(wrapped, place)
        for name, each in state.items():
            if name not in ("__doc__", "__wrapped__", "__annotations__"):
                self.word(name)
                self.value(each, f"{place}.{name}")

    def _instructions(self, code: CodeType, function: FunctionType, cells: Mapping[str, Any], place: str) -> None:
        self.word(code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
        self.word(code.co_varnames, code.co_names, code.co_cellvars, code.co_freevars)
        self.hash.update(code.co_code + code.co_exceptiontable)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._instructions(constant, function, cells, place)
            else:
                self.value(constant, place)
        for name, value in _references(code, function, cells):
            self.word("reads", name)
            self.value(value, f"{place} reads {name}, which")


def _references(code: CodeType, function: FunctionType, cells: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the globals and variables of enclosing functions that code reads, by name, through modules to what it
    reads there."""
    instructions = list(dis.get_instructions(code))
    scope = function.__globals__
    for i, instruction in enumerate(instructions):
        name = str(instruction.argval)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            builtins: Any = scope.get("__builtins__", {})
            known = builtins if isinstance(builtins, Mapping) else vars(builtins)
            if name not in scope and name not in known:
                continue  # an error when it is called, or defined until then
            value = scope[name] if name in scope else known[name]
        elif instruction.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF") and name in cells:
            try:
                value = cells[name].cell_contents
            except ValueError:
                continue  # not assigned yet
        elif instruction.opname == "IMPORT_NAME":
            level = int(instructions[i - 2].argval or 0)
            package = str(scope.get("__package__") or "")
            try:
                value = import_module("." * level + name, package or None)
            except ImportError as error:
                raise NoStableKey(f"{function.__qualname__} imports {name}: {error}") from None
            names = [each.argval for each in instructions[i + 1 :] if each.opname == "IMPORT_FROM"]
            chosen = list(instructions[i - 1].argval or ())
            if chosen and set(chosen) <= set(names):
                yield from ((f"{name}.{each}", getattr(value, each)) for each in chosen if hasattr(value, each))
                continue
        else:
            continue
        for following in instructions[i + 1 :]:
            if not isinstance(value, ModuleType) or following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            if not hasattr(value, following.argval):
                break
            value, name = getattr(value, following.argval), f"{name}.{following.argval}"
        yield name, value


def _slots(kind: type) -> list[str]:
    return [name for each in kind.__mro__ for name in _listed(vars(each).get("__slots__", ()))]


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _named_by_library(value: Any) -> str | None:
    """Return the name of what a library or Python defines under a name, with the library's version; else None."""
    if type(value).__name__ in _BUILT_IN and isinstance(getattr(value, "__self__", None), ModuleType | type | None):
        return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
    scope = getattr(value, "__globals__", None)
    module = scope.get("__name__") if isinstance(scope, dict) else getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<locals>" in name:
        return None
    # What a library made for its caller stands under no name there.
    if isinstance(value, FunctionType) and value.__closure__:
        return None
    owner: Any = sys.modules.get(module)
    for part in name.split("."):
        owner = getattr(owner, part, None)
    public = owner is value or (isinstance(value, type | FunctionType) and module == value.__module__)
    library = _library(module) if public else None
    return None if library is None else f"{module}.{name} of {library}"


@lru_cache(maxsize=4096)
def _library(module: str) -> str | None:
    """Return the version of the installed package, or Python, that a module belongs to; None for users' own code."""
    top = module.partition(".")[0]
    if top in (_OURS, "tpu_dynamo", "tpu_dynamo_runtime"):
        return "tpu_dynamo"  # whose code is part of every key
    if top in sys.stdlib_module_names and top != "__main__":
        return f"Python {sys.version}"
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    # jax and its dependencies may lie in another environment's folder, of which this one knows by a .pth file.
    inside = any(
        place and (any(each in Path(place).parents for each in installed) or "site-packages" in Path(place).parts)
        for place in places
    )
    if not inside:
        return None
    try:
        return f"{top} {version(top)}"
    except PackageNotFoundError:
        owners = packages_distributions().get(top, [])
        return ", ".join(f"{owner} {version(owner)}" for owner in sorted(set(owners))) or None
