"""TPU topologies: the names of slices of TPU that programs are compiled for without having one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .chips import CHIPS, Chip

_NAME = re.compile(r"(\w+):(\d+(?:x\d+)+)")
_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
# Larger ones are made of cubes of 4x4x4.
_CUBIC = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8), (8, 8, 16))


@dataclass(frozen=True)
class Topology:
    """A slice of TPU: so many chips of one generation in a grid."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The topology as libtpu spells it, such as `v5e:2x2`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """The number of its chips."""
        return math.prod(self.shape)


# The common ones, which messages list; find_topology knows the larger ones too.
TOPOLOGIES = tuple(
    Topology(chip, shape).name for chip in CHIPS.values() for shape in (_FLAT if chip.dimensions == 2 else _CUBIC)
)


def find_topology(name: str) -> Topology | None:
    """Return the topology of that name, or None where there is none."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in CHIPS:
        return None
    topology = Topology(CHIPS[match[1]], tuple(map(int, match[2].split("x"))))
    return topology if topology.name == name and _exists(topology) else None


def _exists(topology: Topology) -> bool:
    if topology.chip.dimensions == 2:
        return topology.shape in _FLAT
    shape = topology.shape
    cubes = len(shape) == 3 and all(n and n % 4 == 0 for n in shape) and tuple(sorted(shape)) == shape
    return shape in _CUBIC or (cubes and topology.chips <= topology.chip.largest)
