"""Digests of lowering itself, for the keys of its results: of its code, its tables and the settings that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import torch

from . import jax_compat
from ._torch_compat import OpOverload, torch_decompositions
from .code_digest import NoStableKey
from .table import PATTERNS, SHAPE_PATTERNS, all_lowerings

_OURS = __name__.partition(".")[0]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a digest of this package's source files, since a checkout changes without a new version."""
    found = hashlib.sha256()
    for path, text in sorted(_sources(files(_OURS))):
        found.update(path.encode() + b"\0" + text + b"\0")
    return found.hexdigest()


def _sources(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the path from the package, and the text, of each source file in a folder, which may be in a zip file."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield prefix + entry.name, entry.read_bytes()


def tables_digest() -> str:
    """Return a digest of the names in the tables and of how each is lowered.

    Raises NoStableKey if a function in them is neither ours nor torch's.
    """
    lowerings = all_lowerings()
    functions = tuple(torch_decompositions().values())
    # Computed only when something was added or replaced: 4 ms otherwise.
    identities = (*map(id, lowerings), *map(id, functions), *map(id, PATTERNS), *map(id, SHAPE_PATTERNS))
    return _tables_digest(_ByIdentity(identities, (lowerings, functions)))


class _ByIdentity:
    """Objects as a key of a cache: compared by identity, and held, so that no other object takes their addresses."""

    def __init__(self, identities: tuple[int, ...], held: object):
        self._identities = identities
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other._identities == self._identities

    def __hash__(self) -> int:
        return hash(self._identities)


@lru_cache(maxsize=1)
def _tables_digest(_: _ByIdentity) -> str:
    found = []
    for lowering in all_lowerings():
        _refuse_strangers(lowering.function, str(lowering.overload))
        found.append(f"{lowering.overload} {lowering.how} {lowering.draws}")
    for operator, function in torch_decompositions().items():
        _refuse_strangers(function, str(operator))
    found += [f"pattern {operator}" for operator in PATTERNS]
    found += [f"shape pattern {operator}" for operator in SHAPE_PATTERNS]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def settings() -> dict[str, str]:
    """Return the global settings of PyTorch and JAX that lowering reads."""
    return {
        "default dtype": str(torch.get_default_dtype()),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "JAX settings": repr(jax_compat.settings()),
    }


def _refuse_strangers(function: object, operator: str) -> None:
    """Raise NoStableKey for a function of another package: it can change without anything that a key could name."""
    home = "torch" if isinstance(function, OpOverload) else str(getattr(function, "__module__", None))
    if home.partition(".")[0] not in (_OURS, "torch"):
        raise NoStableKey(f"the lowering of {operator}, which is registered in {home}")
