"""Level 2: from a program's digest and the compile environment to the executable, on disk or compiled once."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tpu_dynamo_runtime import Environment
from tpu_dynamo_runtime.store import Store

from .entries import EXECUTABLE
from .packed_names import pack_names, unpack_names

log = logging.getLogger("tpu_dynamo.cache")

KIND = EXECUTABLE
# Raised when what an entry holds, or how it is made, changes.
_SCHEMA = 1


class Maker(Protocol):
    """A compiler for one compile environment: a PJRT client, or the compiler for a topology.

    The type of its executables is its own affair; `deserialise` raises RuntimeError or ValueError for bytes that it
    does not take.
    """

    @property
    def environment(self) -> Environment:
        """Everything besides a program that decides what is made of it."""
        ...

    def compile(self, stablehlo: bytes) -> Any:
        """Compile MLIR bytecode with one `@main`."""
        ...

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes, for a client of this environment."""
        ...

    def deserialise(self, data: bytes) -> Any:
        """Return the executable that `serialise` turned into bytes."""
        ...


@dataclass(frozen=True)
class Obtained:
    """An executable, and the levels that were searched: `disk`, `remote`, `job`. level: the one that had it.

    operations: the names of its graph's operations in it; None where they are not known.
    """

    executable: Any
    level: str | None
    asked: tuple[str, ...]
    operations: Sequence[str] | None = None


def executable_key(digest: str, environment: Environment) -> str:
    """Return the key of a program's executable in a compile environment. digest: the program's."""
    parts = {"schema": _SCHEMA, "program": digest, "environment": environment}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Others(Protocol):
    """The other processes of a job, of which one makes an executable for all."""

    def receive(self, key: str) -> bytes | None:
        """Return the executable of a key that another process made; None if it is this one's to make."""
        ...

    def publish(self, key: str, executable: bytes | None) -> None:
        """Give the others an executable that this process made or has; None where it cannot be passed on."""
        ...

    def fail(self, key: str, why: str) -> None:
        """Tell the others why there is no executable."""
        ...


def obtain(
    store: Store,
    maker: Maker,
    stablehlo: bytes,
    digest: str,
    others: Others | None = None,
    operations: Sequence[str] = (),
) -> Obtained:
    """Return a program's executable, from the store or compiled and then kept there. Raises what XLA raises.

    others: the job's other processes, one of which compiles what the store does not have. operations: the names of the
    graph's operations in stablehlo.
    """
    key = executable_key(digest, maker.environment)
    loaded = _load(store, maker, key)
    if loaded is not None:
        if others is not None:
            others.publish(key, loaded.data)
        return Obtained(loaded.executable, "disk", ("disk",), loaded.operations)
    make = partial(_make, store, maker, key, stablehlo, digest, operations)
    if others is None:
        return make()[0]
    found, data = shared(others, maker, key, make)
    if found.level == "job" and data is not None and store.may_write() and store.get(KIND, key) is None:
        _keep(store, maker, key, digest, data, None, 0.0)
    return found


def shared(
    others: Others, maker: Maker, key: str, make: Callable[[], tuple[Obtained, bytes | None]]
) -> tuple[Obtained, bytes | None]:
    """Return the executable that another process of the job made, and its bytes; else what `make` makes for all.

    make: gives an executable, and its bytes where it has any. Raises what it raises, here and in the other processes.
    """
    data = others.receive(key)
    if data is not None:
        try:
            return Obtained(maker.deserialise(data), "job", ("disk", "job")), data
        except (RuntimeError, ValueError) as error:
            log.warning("an executable of another process is compiled here again: %s", error)
    try:
        found, data = make()
    except (RuntimeError, ValueError, OSError) as error:
        others.fail(key, str(error))
        raise
    if data is None:  # nothing is kept where the store may not be written to
        data = serialised(maker, found.executable, key)
    others.publish(key, data)
    return found, data


@dataclass(frozen=True)
class _Loaded:
    """An executable, the bytes that it was loaded from, and the names of operations in it, where they are known.

    Those are what is passed on: of an executable that was loaded, XLA's CPU client does not serialise every function.
    """

    executable: Any
    data: bytes
    operations: Sequence[str] | None


def _make(
    store: Store, maker: Maker, key: str, stablehlo: bytes, digest: str, operations: Sequence[str]
) -> tuple[Obtained, bytes | None]:
    """Return an executable that others wrote meanwhile or that is compiled and kept, and its bytes where it has any."""
    data = None
    with store.exclusive(KIND, key):
        # Another process may have made it in the meantime.
        loaded = _load(store, maker, key)
        if loaded is not None:
            return Obtained(loaded.executable, "disk", ("disk",), loaded.operations), loaded.data
        if store.has_remote:
            loaded = _load(store, maker, key, remote=True)
            if loaded is not None:
                return Obtained(loaded.executable, "remote", ("disk", "remote"), loaded.operations), loaded.data
        started = time.perf_counter()
        executable = maker.compile(stablehlo)
        seconds = time.perf_counter() - started
        if store.may_write() and (data := serialised(maker, executable, key)) is not None:
            _keep(store, maker, key, digest, data, operations, seconds)
    return Obtained(executable, None, ("disk", "remote") if store.has_remote else ("disk",), operations), data


def _load(store: Store, maker: Maker, key: str, *, remote: bool = False) -> _Loaded | None:
    entry = store.get(KIND, key, remote=remote)
    if entry is None:
        return None
    try:
        data, names = entry.sections["executable"], entry.sections.get("operations")
        return _Loaded(maker.deserialise(data), data, None if names is None else unpack_names(names))
    except (KeyError, RuntimeError, ValueError) as error:
        # Some machines refuse code that others of their kind compiled, as with AVX-512.
        store.reject(KIND, key, f"{type(error).__name__}: {error}")
        return None


def serialised(maker: Maker, executable: Any, key: str) -> bytes | None:
    """Return the bytes of the executable with a key; None where it has none."""
    try:
        return maker.serialise(executable)
    except (RuntimeError, ValueError) as error:
        log.info("the executable %s cannot be kept: %s", key[:12], error)
        return None


def _keep(
    store: Store,
    maker: Maker,
    key: str,
    digest: str,
    data: bytes,
    operations: Sequence[str] | None,
    seconds: float,
) -> None:
    described: dict[str, Any] = {
        "program": digest,
        "environment": dict(maker.environment),
        "compile_seconds": round(seconds, 3),
    }
    names = {} if operations is None else {"operations": pack_names(operations)}
    store.put(KIND, key, {"executable": data, **names}, described)
