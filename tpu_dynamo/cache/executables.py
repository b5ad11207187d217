"""Level 2: from a program's digest and the compile environment to the executable, on disk or compiled once."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tpu_dynamo_runtime import Environment
from tpu_dynamo_runtime.store import Store

from .entries import EXECUTABLE

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
    """An executable, and the levels that were searched: `disk`, `remote`, `job`. level: the one that had it."""

    executable: Any
    level: str | None
    asked: tuple[str, ...]


def executable_key(digest: str, environment: Environment) -> str:
    """Return the key of a program's executable in a compile environment. digest: the program's."""
    parts = {"schema": _SCHEMA, "program": digest, "environment": environment}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Others(Protocol):
    """The other processes of a job, of which one makes an executable for all."""

    def receive(self, key: str) -> bytes | None:
        """Return the executable of a key that another process made; None if it is this one's to make."""
        ...

    def publish(self, key: str, executable: bytes) -> None:
        """Give the others an executable that this process made or has."""
        ...

    def fail(self, key: str, why: str) -> None:
        """Tell the others why there is no executable."""
        ...


def obtain(store: Store, maker: Maker, stablehlo: bytes, digest: str, others: Others | None = None) -> Obtained:
    """Return a program's executable, from the store or compiled and then kept there. Raises what XLA raises.

    others: the job's other processes, one of which compiles what the store does not have.
    """
    key = executable_key(digest, maker.environment)
    executable = _load(store, maker, key)
    if executable is not None:
        if others is not None:
            others.publish(key, maker.serialise(executable))
        return Obtained(executable, "disk", ("disk",))
    if others is not None:
        data = others.receive(key)
        if data is not None:
            executable = maker.deserialise(data)
            if store.may_write() and store.get(KIND, key) is None:
                _keep(store, maker, key, digest, executable, 0.0)
            return Obtained(executable, "job", ("disk", "job"))
        with telling(others, key):
            found = _make(store, maker, key, stablehlo, digest)
        others.publish(key, maker.serialise(found.executable))
        return found
    return _make(store, maker, key, stablehlo, digest)


@contextmanager
def telling(others: Others, key: str) -> Iterator[None]:
    """Tell the others of an error within the context, for which they would wait."""
    try:
        yield
    except RuntimeError as error:
        others.fail(key, str(error))
        raise


def _make(store: Store, maker: Maker, key: str, stablehlo: bytes, digest: str) -> Obtained:
    with store.exclusive(KIND, key):
        # Another process may have made it in the meantime.
        executable = _load(store, maker, key)
        if executable is not None:
            return Obtained(executable, "disk", ("disk",))
        if store.has_remote:
            executable = _load(store, maker, key, remote=True)
            if executable is not None:
                return Obtained(executable, "remote", ("disk", "remote"))
        started = time.perf_counter()
        executable = maker.compile(stablehlo)
        seconds = time.perf_counter() - started
        if store.may_write():
            _keep(store, maker, key, digest, executable, seconds)
    return Obtained(executable, None, ("disk", "remote") if store.has_remote else ("disk",))


def _load(store: Store, maker: Maker, key: str, *, remote: bool = False) -> Any | None:
    entry = store.get(KIND, key, remote=remote)
    if entry is None:
        return None
    try:
        return maker.deserialise(entry.sections["executable"])
    except (KeyError, RuntimeError, ValueError) as error:
        # Some machines refuse code that others of their kind compiled, as with AVX-512.
        store.reject(KIND, key, f"{type(error).__name__}: {error}")
        return None


def _keep(store: Store, maker: Maker, key: str, digest: str, executable: Any, seconds: float) -> None:
    try:
        serialised = maker.serialise(executable)
    except (RuntimeError, ValueError) as error:
        log.info("the executable of program %s cannot be kept: %s", digest[:12], error)
        return
    described: dict[str, Any] = {
        "program": digest,
        "environment": dict(maker.environment),
        "compile_seconds": round(seconds, 3),
    }
    store.put(KIND, key, {"executable": serialised}, described)
