"""The numbers of an optimizer's groups: those that change are operands of the step, so a change compiles nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from ..device import NAME as DEVICE

# The index of a group, the name of a number in it, and for pairs such as betas the index within.
NumberPath = tuple[int, str, int | None]

# Keys of a group that no step's graph depends on: those of schedulers, and of the choice among equal implementations.
IGNORED_GROUP_KEYS = (
    "params", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr",
    "foreach", "fused", "capturable",
)  # fmt: skip


class Numbers:
    """An optimizer's numbers, of which some are operands: `lr` and tensors always, others once they have changed."""

    def __init__(self, optimizer: Optimizer):
        self._optimizer = optimizer
        self._names = {"lr"}
        self._seen: list[dict[str, Any]] = []
        self._uploaded: dict[NumberPath, tuple[float, torch.Tensor]] = {}

    def settings(self) -> tuple[Any, ...]:
        """Return the hashable group options baked into the compiled step; for operands only whether they are zero."""
        groups = [
            {k: v for k, v in group.items() if k not in IGNORED_GROUP_KEYS} for group in self._optimizer.param_groups
        ]
        if groups != self._seen:
            self._note_operands(groups)
            self._seen = groups
        return tuple(tuple((k, self._baked(k, v)) for k, v in group.items()) for group in groups)

    def _note_operands(self, groups: list[dict[str, Any]]) -> None:
        before = [*self._seen, *({} for _ in groups)]
        for earlier, now in zip(before, groups, strict=False):
            for name, value in now.items():
                leaves = _leaves(value)
                changed = all(isinstance(v, float) for v in leaves) and earlier.get(name, value) != value
                if changed or any(isinstance(v, torch.Tensor) for v in leaves):
                    self._names.add(name)

    def _baked(self, name: str, value: Any) -> Any:
        if name not in self._names:
            return _hashable(value)
        return tuple(_hashable(v) if not _is_number(v) else name == "lr" or is_nonzero(v) for v in _leaves(value))

    def operands(self) -> list[NumberPath]:
        """Return the paths of the numbers that are operands."""
        paths: list[NumberPath] = []
        for i, group in enumerate(self._optimizer.param_groups):
            for name in sorted(self._names & group.keys()):
                alone = not isinstance(group[name], tuple | list)
                paths += [(i, name, None if alone else k) for k, v in enumerate(_leaves(group[name])) if _is_number(v)]
        return paths

    def value(self, path: NumberPath) -> Any:
        """Return a number, or the tensor that the user gave for it."""
        group, name, index = path
        value = self._optimizer.param_groups[group][name]
        return value if index is None else value[index]

    def tensors(self, paths: list[NumberPath]) -> list[torch.Tensor]:
        """Return numbers as float64 tensors without dimensions on the device; only those that changed are uploaded."""
        return [self._tensor(path) for path in paths]

    def _tensor(self, path: NumberPath) -> torch.Tensor:
        value = self.value(path)
        if isinstance(value, torch.Tensor):
            return value.double().reshape(())
        known = self._uploaded.get(path)
        if known is None or known[0] != value:
            known = self._uploaded[path] = value, torch.tensor(value, dtype=torch.float64).to(DEVICE)
        return known[1]


def is_nonzero(value: float | torch.Tensor) -> bool:
    """Return True for a number other than 0; a tensor counts as one. Optimizers branch on it while they are traced."""
    return isinstance(value, torch.Tensor) or value != 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)


def _leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, tuple | list) else value
