"""The version of lowering itself, for keys of its results: digests of its code and tables, the settings it reads."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch

from . import jax_compat
from ._torch_compat import OpOverload, torch_decompositions
from .canonical import NoStableKey
from .table import FOREIGN, HIGHER_ORDER, PATTERNS, SHAPE_PATTERNS, TABLE

_OURS = __name__.partition(".")[0]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Compute a digest of this package's source files: a checkout changes without a new version."""
    folder = Path(__file__).parent
    found = hashlib.sha256()
    files = sorted(folder.rglob("*.py"), key=lambda file: file.relative_to(folder).as_posix())
    for file in files:
        found.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()


def tables_digest() -> str:
    """Compute a digest of the tables. Raises NoStableKey where a function in them is neither ours nor torch's."""
    tables = (TABLE, FOREIGN, HIGHER_ORDER)
    entered = tuple(lowering for table in tables for lowering in table.values())
    functions = tuple(torch_decompositions().values())
    # Written out only when something was added or replaced: 4 ms otherwise.
    seen = (*map(id, entered), *map(id, functions), *map(id, PATTERNS), *map(id, SHAPE_PATTERNS))
    return _tables_digest(_Same(seen, (entered, functions)))


class _Same:
    """A cache key: objects compared by identity, and held, so that no other object gets their addresses."""

    def __init__(self, seen: tuple[int, ...], held: object):
        self._seen = seen
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._seen == self._seen

    def __hash__(self) -> int:
        return hash(self._seen)


@lru_cache(maxsize=1)
def _tables_digest(_: _Same) -> str:
    found = []
    for lowering in (*TABLE.values(), *FOREIGN.values(), *HIGHER_ORDER.values()):
        _check(lowering.function, str(lowering.overload))
        found.append(f"{lowering.overload} {lowering.how} {lowering.draws}")
    for operator, function in torch_decompositions().items():
        _check(function, str(operator))
    found += [f"pattern {operator}" for operator in PATTERNS]
    found += [f"shape pattern {operator}" for operator in SHAPE_PATTERNS]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def settings() -> dict[str, str]:
    """Return the global state of PyTorch and JAX that lowering reads."""
    return {
        "default dtype": str(torch.get_default_dtype()),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "JAX settings": repr(jax_compat.settings()),
    }


def _check(function: object, operator: str) -> None:
    # A function of somebody else's can change without anything that a key could name.
    home = "torch" if isinstance(function, OpOverload) else str(getattr(function, "__module__", None))
    if home.partition(".")[0] not in (_OURS, "torch"):
        raise NoStableKey(f"the lowering of {operator}, which is registered in {home}")
