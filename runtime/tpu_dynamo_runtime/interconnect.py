"""The time that collectives take on the links between the chips of a topology, by the formulas of rings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .hlo_collectives import Group
from .topologies import Topology

# Links between the ends of a dimension: of flat topologies from the size of a whole pod on, of others from a cube's.
_WHOLE_POD = 16
_CUBE = 4

# By kind of collective: how often a chip must receive the share that it has not of the whole tensor.
_ROUNDS = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2, "collective-broadcast": 1}


class Interconnect:
    """The links between a program's chips.

    places: the coordinates of the replicas, in their order.
    """

    def __init__(self, topology: Topology, places: Sequence[Sequence[int]]):
        self._link = topology.chip.link_bandwidth
        self._shape = topology.shape
        self._places = places

    def bandwidth(self, group: Group) -> float:
        """Return the bytes in a second that each chip of a group can take from the group's others at once.

        In every dimension in which the chips lie apart a chip has a link, and two where the ends are linked as well;
        chips with others in between share the links with the groups of these.
        """
        total = 0.0
        for dimension, size in enumerate(self._shape):
            at = sorted({self._places[replica][dimension] for replica in group})
            if len(at) < 2:
                continue
            apart = min(high - low for low, high in itertools.pairwise(at))
            closed = self._wraps(size) and len(at) * apart == size
            total += self._link * (2 if closed else 1) / apart
        return total or self._link  # two devices of one chip

    def sides(self, group: Group) -> int:
        """Return how many dimensions of the topology a group has four or more chips along.

        libtpu 0.0.52 reduces and scatters along rings of one side; of a group with more sides it reduces everything.
        """
        return sum(len({self._places[replica][i] for replica in group}) >= _CUBE for i in range(len(self._shape)))

    def _wraps(self, size: int) -> bool:
        return size >= _WHOLE_POD if len(self._shape) == 2 else size % _CUBE == 0

    def seconds(self, kind: str, groups: Sequence[Group], nbytes: int) -> float:
        """Return the time of a collective that has the links to itself. nbytes: of the whole tensor."""
        if kind == "collective-permute":
            return nbytes / self._link
        group = min(groups, key=self.bandwidth)
        size = len(group)
        if kind in _ROUNDS:
            return sent(kind, size, nbytes) / self.bandwidth(group)
        # Each piece goes around the ring to its chip, and takes a link at each step.
        steps = sum(min(step, size - step) for step in range(1, size))
        return nbytes / size * steps / self.bandwidth(group)


def sent(kind: str, size: int, nbytes: int) -> float:
    """Return the bytes that each chip of a group of this size sends. nbytes: of the whole tensor."""
    if kind == "collective-permute":
        return nbytes
    return _ROUNDS.get(kind, 1) * nbytes * (size - 1) / size
