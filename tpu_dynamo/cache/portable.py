"""Entries of the cache inside of `torch.compiler.save_cache_artifacts()`'s bytes, and loaded from them into a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tpu_dynamo_runtime.store import Store, import_data

from .._torch_compat import CacheArtifact, CacheArtifactFactory, CacheArtifactRecorder

_TYPE = "tpu_dynamo"


@dataclass(frozen=True)
class Reference:
    """An entry in a store; its file is read when somebody saves it."""

    store: Store
    kind: str
    key: str


def record(store: Store, kind: str, key: str) -> None:
    """Note that this process made or used an entry, which then goes into the bytes."""
    if store.directory is not None:
        CacheArtifactRecorder(_TYPE, f"{kind}/{key}").record(Reference(store, kind, key))


class StoreArtifact(CacheArtifact):
    """An entry's file, as the store has it, checksums and all."""

    # Returns the store that loaded entries go into; `register` sets it.
    open_store: ClassVar[staticmethod[[], Store | None]] = staticmethod(lambda: None)

    @property
    def content(self) -> bytes:
        """The file's bytes; empty where the entry is no longer there."""
        held = self._held
        return held if isinstance(held, bytes) else held.store.get_file(held.kind, held.key) or b""

    @content.setter
    def content(self, held: bytes | Reference) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        object.__setattr__(self, "_held", held)

    _held: bytes | Reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreArtifact) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    @staticmethod
    def encode(content: Any) -> Any:
        """Return `content` as it is: the file is read when it is saved, and not before."""
        return content

    def populate_cache(self) -> None:
        """Put the entry into the store that the environment names, after every check that the store has."""
        store, data = type(self).open_store(), self.content
        if store is not None and data:
            import_data(store, data, self.key)

    @staticmethod
    def type() -> str:
        """Return the name of our entries among those of other caches."""
        return _TYPE


def register(open_store: Callable[[], Store | None]) -> None:
    """Make torch's functions know our entries. open_store: returns the store that loaded ones go to."""
    if _TYPE not in CacheArtifactFactory._artifact_types:
        CacheArtifactFactory.register(StoreArtifact)
    StoreArtifact.open_store = staticmethod(open_store)
