"""The one door to torch's packages of compiled frames, which torch has no public API for yet."""

from __future__ import annotations

import contextlib
import gc
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch._dynamo import config
from torch._dynamo.bytecode_transformation import unique_id
from torch._dynamo.eval_frame import innermost_fn
from torch._dynamo.guards import CheckFunctionManager
from torch._dynamo.package import CompilePackage, PrecompileCacheEntry
from torch._dynamo.precompile_context import PrecompileContext

__all__ = [
    "CompilePackage",
    "GuardEntry",
    "cannot_be_serialised",
    "contents",
    "decode",
    "dynamo_settings",
    "encode",
    "function_of",
    "install",
    "module_scope",
    "new_package",
    "optimize",
]

GuardEntry = Any

# Names that Dynamo invents for globals.
_INVENTED = re.compile(r"___module_|__import_|_\d+_c\d+$")

_NUMBERED = re.compile(r"__\w*_(\d{1,6})$")

_BY_ADDRESS = frozenset(CheckFunctionManager.UNSUPPORTED_SERIALIZATION_GUARD_TYPES)


def cannot_be_serialised(guard: GuardEntry) -> bool:
    """Return True if torch refuses to write a guard into a package."""
    by_type = guard.guard_type in ("TYPE_MATCH", "BUILTIN_MATCH") and guard.orig_guard._unserializable
    return by_type or guard.guard_type in _BY_ADDRESS or not _BY_ADDRESS.isdisjoint(guard.derived_guard_types)


def dynamo_settings() -> str:
    """Return Dynamo's settings as text; those that are objects appear by the name of their type."""
    # Dynamo's own digest of them pickles sets, which differ from process to process.
    found = sorted((name, _plain(value)) for name, value in config.get_config_copy().items())
    return repr(found)


def _plain(value: object) -> str:
    if isinstance(value, set | frozenset):
        return repr(sorted(map(_plain, value)))
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    return getattr(value, "__qualname__", None) or type(value).__name__


def function_of(model: Callable[..., Any]) -> Any:
    """Return the function whose frame Dynamo compiles: a module's forward, or the function itself."""
    return model.forward if isinstance(model, torch.nn.Module) else model


def module_scope(function: Any) -> dict[str, Any]:
    """Return the globals of a function's frame; `__module__` may name another module, if a decorator set it."""
    return innermost_fn(function).__globals__


def new_package(function: Any, entry: PrecompileCacheEntry | None) -> CompilePackage:
    """Return a package for a function's frame, with the contents of an entry or empty.

    Raises RuntimeError where versions, or the sources of the code that was traced, are no longer those of the entry.
    """
    package = CompilePackage(function, entry.dynamo if entry is not None else None)
    if entry is None:
        package._codes[innermost_fn(function).__code__].python_module = module_scope(function)["__name__"]
    return package


def optimize(
    model: Callable[..., Any],
    backend: Callable[..., Any],
    package: CompilePackage,
    guard_filter: Callable[..., Any],
    dynamic: bool | None,
) -> Any:
    """Return torch.compile(model, fullgraph=True) that takes compiled frames from a package and adds new ones to it."""
    return torch._dynamo.optimize(
        backend=backend, nopython=True, dynamic=dynamic, package=package, guard_filter_fn=guard_filter
    )(model)


class Contents(NamedTuple):
    """Counts of a package: compiled frames, each with its guards, and graphs."""

    frames: int
    graphs: int


def contents(package: CompilePackage) -> Contents:
    """Count the frames and graphs in a package."""
    codes = package._codes.values()
    return Contents(sum(len(code.guarded_codes) for code in codes), sum(len(code.backend_ids) for code in codes))


def encode(package: CompilePackage, backends: Mapping[str, Any]) -> bytes:
    """Return a package as pickled bytes. backends: those that the package was loaded with.

    Raises LookupError if torch's cache of AOTAutograd's results has no entry of a graph, and pickle's errors.
    """
    held = dict(backends)
    entry = package.cache_entry()
    for code in entry.codes:
        _note_modules(code)
    for name in entry.backend_ids - held.keys():
        held[name] = PrecompileContext.serialize_artifact_by_key(name)
        if held[name] is None:
            raise LookupError("AOTAutograd's result cannot be kept")
    return pickle.dumps(PrecompileCacheEntry(entry, {name: held[name] for name in entry.backend_ids}))


def _note_modules(code: Any) -> None:
    # Dynamo puts some modules into the globals under names of its own, and leaves them out of the package.
    scope = vars(sys.modules[code.python_module])
    for name, value in scope.items():
        if _INVENTED.match(name) and isinstance(value, types.ModuleType):
            code.import_sources.setdefault(name, value.__name__)


def decode(data: bytes) -> PrecompileCacheEntry:
    """Return the entry that `encode` wrote. Unpickling runs code: pass bytes of a trusted store only."""
    with _no_collections():
        entry = pickle.loads(data)
    if not isinstance(entry, PrecompileCacheEntry):
        raise TypeError(f"{type(entry).__name__} is no package")
    return entry


def install(package: CompilePackage, entry: PrecompileCacheEntry) -> None:
    """Make Dynamo run a loaded package's code. Raises torch's errors, and then nothing is installed."""
    try:
        with _no_collections():
            package.install(entry.backends)
    except BaseException:
        package.uninstall()
        raise
    # The package's globals carry numbers of another process; Dynamo fails if it gives out the same numbers again.
    scopes = {code.python_module for code in entry.dynamo.codes}
    names = (name for scope in scopes for name in vars(sys.modules[scope]))
    taken = [int(match[1]) for name in names if (match := _NUMBERED.match(name))]
    while taken and int(unique_id("").rpartition("_")[2]) <= max(taken):
        pass


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    # Some hundred thousand objects are made and kept; looking through them in between doubles the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
