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

# Names of globals that Dynamo makes up.
_MADE_UP = re.compile(r"___module_|__import_|_\d+_c\d+$")

_NUMBERED = re.compile(r"__\w*_(\d{1,6})$")

_BY_ADDRESS = frozenset(CheckFunctionManager.UNSUPPORTED_SERIALIZATION_GUARD_TYPES)


def cannot_be_serialised(guard: GuardEntry) -> bool:
    """Whether torch refuses to write a guard into a package."""
    by_type = guard.guard_type in ("TYPE_MATCH", "BUILTIN_MATCH") and guard.orig_guard._unserializable
    return by_type or guard.guard_type in _BY_ADDRESS or not _BY_ADDRESS.isdisjoint(guard.derived_guard_types)


def dynamo_settings() -> str:
    """Dynamo's settings, but for those that hold objects."""
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
    """The function whose frame Dynamo compiles: a module's forward, or the function itself."""
    return model.forward if isinstance(model, torch.nn.Module) else model


def module_scope(function: Any) -> dict[str, Any]:
    """The globals of a function's frame. A decorator may say another module in `__module__`."""
    return innermost_fn(function).__globals__


def new_package(function: Any, entry: PrecompileCacheEntry | None) -> CompilePackage:
    """A package for a function's frame: with what an entry holds, or empty.

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
    """torch.compile(fullgraph=True) that takes from a package, and adds to it, what it compiles."""
    return torch._dynamo.optimize(
        backend=backend, nopython=True, dynamic=dynamic, package=package, guard_filter_fn=guard_filter
    )(model)


class Contents(NamedTuple):
    """How many frames with their guards a package holds, and how many graphs."""

    frames: int
    graphs: int


def contents(package: CompilePackage) -> Contents:
    """What a package holds."""
    codes = package._codes.values()
    return Contents(sum(len(code.guarded_codes) for code in codes), sum(len(code.backend_ids) for code in codes))


def encode(package: CompilePackage, backends: Mapping[str, Any]) -> bytes:
    """A package as bytes, pickled. backends: those that the package was loaded with.

    Raises LookupError where torch's cache of AOTAutograd's results has no entry of a graph, and what pickle raises.
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
    # Dynamo puts some modules into the globals under names of its own, and does not tell the package.
    scope = vars(sys.modules[code.python_module])
    for name, value in scope.items():
        if _MADE_UP.match(name) and isinstance(value, types.ModuleType):
            code.import_sources.setdefault(name, value.__name__)


def decode(data: bytes) -> PrecompileCacheEntry:
    """The entry that `encode` wrote. Unpickling runs code: only bytes of a trusted store come here."""
    with _no_collections():
        entry = pickle.loads(data)
    if not isinstance(entry, PrecompileCacheEntry):
        raise TypeError(f"{type(entry).__name__} is no package")
    return entry


def install(package: CompilePackage, entry: PrecompileCacheEntry) -> None:
    """Make a loaded package's code what Dynamo runs. Raises what torch raises; then nothing is installed."""
    try:
        with _no_collections():
            package.install(entry.backends)
    except BaseException:
        package.uninstall()
        raise
    # The package's globals have numbers of another process, which Dynamo would give again, and then fails.
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
