"""Helpers of the store's tests: a clock that is told, entries whose bytes follow from their names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hypothesis import settings

from tpu_dynamo_runtime.store import Store, open_store

# The same examples each time; how long one takes depends on the disk.
examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

KIND = "executable"
KEY = "ab" * 32


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1.7e9):
        self.now = now

    def __call__(self) -> float:
        return self.now


def key(number: int) -> str:
    """The key of a numbered entry."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def content(name: str, size: int = 1000) -> bytes:
    """Bytes that follow from a name and do not compress."""
    return hashlib.shake_128(name.encode()).digest(size)


def sections(name: str, size: int = 1000) -> dict[str, bytes]:
    return {"executable": content(name, size), "stablehlo": b"module {}" * 20, "outputs": b""}


def new_store(path: Path, **options: Any) -> Store:
    """A store whose entries and counts a test begins with: none."""
    store = open_store(path, **{"lock_timeout": 0.0, **options})
    assert store.directory is not None
    assert not store.faults.counts()
    return store


def put(store: Store, name: str, size: int = 1000) -> None:
    assert store.put(KIND, name, sections(name, size), {"name": name})


def entry_path(store: Store, name: str = KEY) -> Path:
    assert store.directory is not None
    return store.directory.path(KIND, name)


def kept(store: Store) -> set[str]:
    """The keys of the entries that are there, found without using them."""
    assert store.directory is not None
    return {file.key for file in store.directory.files()}
