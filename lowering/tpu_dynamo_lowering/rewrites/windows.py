"""Window functions, computed by torch.signal.windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.signal import windows

from ..table import How, Lowering, add

aten = torch.ops.aten


def _hamming(length: int, alpha: float = 0.54, beta: float = 0.46, **options: Any) -> Tensor:
    # In ATen the two coefficients are free; torch.signal's sum to one.
    return windows.general_cosine(length, a=[alpha, beta], **options)


def _kaiser(length: int, beta: float = 12.0, **options: Any) -> Tensor:
    return windows.kaiser(length, beta=beta, **options)


def _window(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def compute(
        window_length: int, periodic: bool = True, *shape: float, dtype: torch.dtype | None = None, **others: Any
    ) -> Tensor:
        return function(window_length, *shape, sym=not periodic, dtype=dtype, device=others.get("device"))

    return compute


_REASON = "constants that torch.signal.windows computes while compiling."

for _packet, _function in (
    (aten.bartlett_window, windows.bartlett),
    (aten.blackman_window, windows.blackman),
    (aten.hamming_window, _hamming),
    (aten.kaiser_window, _kaiser),
):
    for _name in _packet.overloads():
        _overload = getattr(_packet, _name)
        if not _overload._schema.is_mutable:
            add(Lowering(_overload, How.REWRITE, _REASON, _window(_function)))
