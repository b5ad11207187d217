"""The device's random numbers: keys drawn from a generator of its own."""

from __future__ import annotations

import torch

# On the CPU: programs draw from keys, and this only draws keys. Seeded by torch.manual_seed like every device's.
_generator = torch.Generator()
_generator.manual_seed(torch.initial_seed())


def generator() -> torch.Generator:
    """The generator that the device's keys come from."""
    return _generator


def draw_keys(count: int) -> torch.Tensor:
    """As many keys as a program wants, an int64 vector on the CPU."""
    return torch.empty(count, dtype=torch.int64).random_(generator=_generator)
