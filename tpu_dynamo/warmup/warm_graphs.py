"""What capturing a case's graphs found and made."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpu_dynamo_lowering import Unsupported


@dataclass(frozen=True)
class WarmGraph:
    """One graph at one set of sizes, and where its entries are in the cache.

    program, executable: the keys of its entries; None for what cannot be kept. found: whether the program, and the
    executable, were there already. lowering, compiling: seconds.
    """

    name: str
    role: str
    sizes: dict[str, float]
    program: str | None
    executable: str | None
    found: tuple[bool, bool]
    lowering: float = 0.0
    compiling: float = 0.0


@dataclass
class Warmed:
    """What came of one capture after the other. missing: why things were not in the cache, one sentence a miss."""

    graphs: list[WarmGraph] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    in_eager: list[str] = field(default_factory=list)
    uncacheable: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
