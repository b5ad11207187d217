"""The communication of a program that spans chips: bytes and time by axis of the mesh and by source line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .hlo_collectives import Collective, Group, collectives_of
from .hlo_places import SourceLine
from .interconnect import Interconnect, sent
from .job import Span
from .topologies import Topology

Mesh = Mapping[str, int]


@dataclass(frozen=True)
class Exchange:
    """A share of a program's communication.

    nbytes: what each chip sends. seconds: what that takes on links that nothing else uses. count: how many collectives.
    """

    nbytes: int = 0
    seconds: float = 0.0
    count: int = 0

    def __add__(self, other: Exchange) -> Exchange:
        return Exchange(self.nbytes + other.nbytes, self.seconds + other.seconds, self.count + other.count)


@dataclass(frozen=True)
class Communication:
    """The collectives of one run of a program, and what they add to it.

    compute: seconds of everything else, by XLA's estimate of cycles. exchanges: for each collective its kind, the axes
    of the mesh that it goes along as `dp` or `dp+tp`, its source line, and its share. All times are estimates: of rings
    on links that work at their nominal speed.
    """

    compute: float
    exchanges: tuple[tuple[str, str, SourceLine | None, Exchange], ...]

    @property
    def total(self) -> Exchange:
        """All collectives together."""
        return sum((exchange for *_, exchange in self.exchanges), Exchange())

    @property
    def step(self) -> tuple[float, float]:
        """Seconds of one run: with all of the communication behind computations, and with none of it."""
        return max(self.compute, self.total.seconds), self.compute + self.total.seconds

    @property
    def share(self) -> tuple[float, float]:
        """The share of one run in which a chip only waits for others, at best and at worst."""
        best, worst = self.step
        return (best - self.compute) / best if best else 0.0, self.total.seconds / worst if worst else 0.0

    def by_axis(self) -> dict[str, Exchange]:
        """Return the communication along each axis of the mesh, the dearest first."""
        return _summed((axes, exchange) for _, axes, _, exchange in self.exchanges)

    def by_kind(self) -> dict[str, Exchange]:
        """Return the communication of each kind of collective, the dearest first."""
        return _summed((kind, exchange) for kind, _, _, exchange in self.exchanges)

    def by_line(self) -> dict[SourceLine | None, Exchange]:
        """Return the communication of each source line, the dearest first."""
        return _summed((place, exchange) for _, _, place, exchange in self.exchanges)


def communication_of(
    hlo: str, cycles: int, topology: Topology, places: Sequence[Sequence[int]], mesh: Mesh, span: Span
) -> Communication:
    """Compute the communication of a program from its optimised HLO.

    cycles: XLA's estimate of the computations. places: the coordinates of the replicas' chips. mesh: the sizes of the
    job's mesh by the names of its dimensions. span: the ranks of the replicas.
    """
    links = Interconnect(topology, places)
    found = tuple(
        (each.kind, axes_of(each.groups, mesh, span), each.place, _exchange(links, each))
        for each in collectives_of(hlo)
    )
    return Communication(cycles / topology.chip.clock, found)


def axes_of(groups: Sequence[Group], mesh: Mesh, span: Span) -> str:
    """Name the axes of a mesh that groups of replicas go along, the outermost first, joined by a plus."""
    steps = {name: math.prod(list(mesh.values())[i + 1 :]) for i, name in enumerate(mesh)}
    across: set[str] = set()
    for group in groups:
        ranks = [span[replica] for replica in group]
        across |= {name for name, size in mesh.items() if len({rank // steps[name] % size for rank in ranks}) > 1}
    return "+".join(name for name in mesh if name in across)


def _exchange(links: Interconnect, each: Collective) -> Exchange:
    size = len(each.groups[0])
    seconds = links.seconds(each.kind, each.groups, each.nbytes)
    return Exchange(round(sent(each.kind, size, each.nbytes) * each.times), seconds * each.times, each.times)


def _summed(rows: Iterable[tuple[Any, Exchange]]) -> dict[Any, Exchange]:
    found: dict[Any, Exchange] = {}
    for key, exchange in rows:
        found[key] = found.get(key, Exchange()) + exchange
    return dict(sorted(found.items(), key=lambda item: -item[1].seconds))
