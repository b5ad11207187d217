"""The device's time by module, each within the one that contains it, down to operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .model import OperationTime

OUTSIDE = "outside of modules"


@dataclass
class _Node:
    name: str
    seconds: float = 0.0
    below: dict[str, _Node] = field(default_factory=dict)

    def add(self, path: Iterable[str], seconds: float) -> None:
        self.seconds += seconds
        node = self
        for name in path:
            node = node.below.setdefault(name, _Node(name))
            node.seconds += seconds

    def as_data(self) -> list[Any]:
        below = sorted(self.below.values(), key=lambda node: -node.seconds)
        return [self.name, self.seconds, [node.as_data() for node in below]]


def flame(operations: Iterable[OperationTime]) -> list[Any]:
    """Return a tree of [name, seconds, parts] for JSON: modules by their paths, and in each the operators it calls.

    The parts of a node add up to it. Operations of no module stand together, as those of losses and optimizers.
    """
    root = _Node("all")
    for each in operations:
        operator = each.operator or each.opcode or each.operation
        modules = each.module.split(".") if each.module else [OUTSIDE if each.graph else "other programs"]
        root.add([*modules, operator], each.seconds)
    return root.as_data()
