"""Shares what is known of the values that pass from a padded forward graph to its backward graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sympy

from tpu_dynamo_lowering import Extent

from ..cache.signature import Frame
from .padding import count


@dataclass
class SavedValues:
    """Places of the true elements in what a padded forward graph saves for its backward graph, which gets it as it is.

    extents: by the names of the values in both graphs, dimensions at some bucket.
    """

    extents: dict[str, tuple[Extent, ...]] = field(default_factory=dict)

    def at(self, sizes: Mapping[sympy.Symbol, int | float]) -> dict[str, tuple[Extent, ...]]:
        """Return the dimensions at these sizes of the bucket."""

        def bound(extent: Extent) -> Extent:
            return tuple(replace(part, size=count(part.true, sizes)) if part.padded else part for part in extent)

        return {name: tuple(map(bound, extents)) for name, extents in self.extents.items()}


class SavedByFrame:
    """Shares the saved values of a forward graph with its backward graph, where both are known by their frame."""

    def __init__(self) -> None:
        # With the frame itself, so that no other gets its id.
        self._known: dict[int, tuple[Frame, SavedValues]] = {}

    def __call__(self, frame: Frame) -> SavedValues:
        """Return the saved values of a frame's graphs."""
        return self._known.setdefault(id(frame), (frame, SavedValues()))[1]
