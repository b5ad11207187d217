"""Level 2: from a program's digest and the compile environment to the executable, on disk or compiled once."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_runtime import Client, Environment, LoadedExecutable
from tpu_dynamo_runtime.store import Store

from .entries import EXECUTABLE

log = logging.getLogger("tpu_dynamo.cache")

KIND = EXECUTABLE
# Raised when what an entry holds, or how it is made, changes.
_SCHEMA = 1


@dataclass(frozen=True)
class Found:
    """An executable, and the levels that were asked for it: `disk`, `remote`. level: the one that had it, if any."""

    executable: LoadedExecutable
    level: str | None
    asked: tuple[str, ...]


def executable_key(digest: str, environment: Environment) -> str:
    """The key of the executable of a program in an environment."""
    parts = {"schema": _SCHEMA, "program": digest, "environment": environment}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def obtain(store: Store, client: Client, stablehlo: bytes, digest: str) -> Found:
    """The executable of a program: from the store, or compiled and then kept there. Raises what XLA raises."""
    key = executable_key(digest, client.environment)
    executable = _load(store, client, key)
    if executable is not None:
        return Found(executable, "disk", ("disk",))
    with store.exclusive(KIND, key):
        # Another process may have made it in the meantime.
        executable = _load(store, client, key)
        if executable is not None:
            return Found(executable, "disk", ("disk",))
        if store.has_remote:
            executable = _load(store, client, key, remote=True)
            if executable is not None:
                return Found(executable, "remote", ("disk", "remote"))
        started = time.perf_counter()
        executable = client.compile(stablehlo)
        seconds = time.perf_counter() - started
        if store.may_write():
            _keep(store, client, key, digest, executable, seconds)
    return Found(executable, None, ("disk", "remote") if store.has_remote else ("disk",))


def _load(store: Store, client: Client, key: str, *, remote: bool = False) -> LoadedExecutable | None:
    entry = store.get(KIND, key, remote=remote)
    if entry is None:
        return None
    try:
        return client.deserialise(entry.sections["executable"])
    except (KeyError, RuntimeError, ValueError) as error:
        # Some machines refuse code that others of their kind compiled, as with AVX-512.
        store.reject(KIND, key, f"{type(error).__name__}: {error}")
        return None


def _keep(store: Store, client: Client, key: str, digest: str, executable: LoadedExecutable, seconds: float) -> None:
    try:
        serialised = client.serialise(executable)
    except (RuntimeError, ValueError) as error:
        log.info("the executable of program %s cannot be kept: %s", digest[:12], error)
        return
    described: dict[str, Any] = {
        "program": digest,
        "environment": dict(client.environment),
        "compile_seconds": round(seconds, 3),
    }
    store.put(KIND, key, {"executable": serialised}, described)
