"""The numbers of an optimizer's groups: learning rates and what else changes are operands, and compile nothing anew."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from ..device import NAME as DEVICE

# A number of a group by its index and name, and for betas by their place in the pair.
Place = tuple[int, str, int | None]

# What schedulers and the choice among equal forms keep in a group, which no step's graph depends on.
_WITHOUT_MEANING = (
    "params", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr",
    "foreach", "fused", "capturable",
)  # fmt: skip


class Numbers:
    """An optimizer's numbers, and which of them are operands: `lr` at first, others once they have changed."""

    def __init__(self, optimizer: Optimizer):
        self._optimizer = optimizer
        self._names = {"lr"}
        self._seen: list[dict[str, Any]] = []
        self._uploaded: dict[Place, tuple[float, torch.Tensor]] = {}

    def settings(self) -> tuple[Any, ...]:
        """What of the groups is frozen into a step, hashable; numbers that are operands only by whether they are 0."""
        groups = [
            {k: v for k, v in group.items() if k not in _WITHOUT_MEANING} for group in self._optimizer.param_groups
        ]
        if groups != self._seen:
            self._note_changes(groups)
            self._seen = groups
        return tuple(
            tuple((k, _without_value(v) if k in self._names else v) for k, v in group.items()) for group in groups
        )

    def _note_changes(self, groups: list[dict[str, Any]]) -> None:
        for before, now in zip(self._seen, groups, strict=False):
            for name, value in now.items():
                numeric = all(isinstance(v, float | torch.Tensor) for v in _leaves(value))
                if numeric and name in before and not _same(before[name], value):
                    self._names.add(name)

    def operands(self) -> list[Place]:
        """The places of those that are operands."""
        places: list[Place] = []
        for i, group in enumerate(self._optimizer.param_groups):
            for name in sorted(self._names & group.keys()):
                if isinstance(group[name], tuple | list):
                    places += [(i, name, k) for k in range(len(group[name]))]
                else:
                    places.append((i, name, None))
        return places

    def value(self, place: Place) -> Any:
        """A number, or the tensor that the user gave for it."""
        group, name, index = place
        value = self._optimizer.param_groups[group][name]
        return value if index is None else value[index]

    def tensors(self, places: list[Place]) -> list[torch.Tensor]:
        """The numbers as tensors without dimensions on the device; only those that changed are uploaded."""
        return [self._tensor(place) for place in places]

    def _tensor(self, place: Place) -> torch.Tensor:
        value = self.value(place)
        if isinstance(value, torch.Tensor):
            return value.double().reshape(())
        known = self._uploaded.get(place)
        if known is None or known[0] != value:
            known = self._uploaded[place] = value, torch.tensor(value, dtype=torch.float64).to(DEVICE)
        return known[1]


def _leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        return left is right
    return left == right


def _without_value(value: Any) -> Any:
    leaves = [isinstance(v, torch.Tensor) or v != 0 for v in _leaves(value)]
    return tuple(leaves)
