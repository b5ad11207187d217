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
    """An optimizer's numbers, and which of them are operands.

    `lr` and what is given as a tensor are operands from the first, others once they have changed.
    """

    def __init__(self, optimizer: Optimizer):
        self._optimizer = optimizer
        self._names = {"lr"}
        self._seen: list[dict[str, Any]] = []
        self._uploaded: dict[Place, tuple[float, torch.Tensor]] = {}

    def settings(self) -> tuple[Any, ...]:
        """What of the groups is frozen into a step, hashable; of operands that is whether they are 0."""
        groups = [
            {k: v for k, v in group.items() if k not in _WITHOUT_MEANING} for group in self._optimizer.param_groups
        ]
        if groups != self._seen:
            self._note_operands(groups)
            self._seen = groups
        return tuple(tuple((k, self._frozen(k, v)) for k, v in group.items()) for group in groups)

    def _note_operands(self, groups: list[dict[str, Any]]) -> None:
        before = [*self._seen, *({} for _ in groups)]
        for earlier, now in zip(before, groups, strict=False):
            for name, value in now.items():
                leaves = _leaves(value)
                changed = all(isinstance(v, float) for v in leaves) and earlier.get(name, value) != value
                if changed or any(isinstance(v, torch.Tensor) for v in leaves):
                    self._names.add(name)

    def _frozen(self, name: str, value: Any) -> Any:
        if name not in self._names:
            return _hashable(value)
        return tuple(_hashable(v) if not _is_number(v) else name == "lr" or is_nonzero(v) for v in _leaves(value))

    def operands(self) -> list[Place]:
        """The places of those that are operands."""
        places: list[Place] = []
        for i, group in enumerate(self._optimizer.param_groups):
            for name in sorted(self._names & group.keys()):
                alone = not isinstance(group[name], tuple | list)
                places += [(i, name, None if alone else k) for k, v in enumerate(_leaves(group[name])) if _is_number(v)]
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


def is_nonzero(value: float | torch.Tensor) -> bool:
    """Whether a step is traced for a number other than 0, which optimizers ask; tensors count as such."""
    return isinstance(value, torch.Tensor) or value != 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)


def _leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, tuple | list) else value
