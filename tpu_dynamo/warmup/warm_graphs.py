"""The graphs that were captured for a case, and their entries in the cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpu_dynamo_lowering import Unsupported


@dataclass(frozen=True)
class WarmGraph:
    """One graph at one set of sizes, and its entries in the cache.

    program, executable: the keys of its entries; None for one that cannot be kept. found: whether the program, and the
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
    """The graphs of a case's captures, and their problems.

    in_eager: names of graphs that run in eager PyTorch. uncacheable, missing: one sentence for each program that cannot
    be kept, and for each miss of a check. not_padded: of graphs that buckets do not serve, why.
    """

    graphs: list[WarmGraph] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    in_eager: list[str] = field(default_factory=list)
    uncacheable: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    not_padded: list[str] = field(default_factory=list)
