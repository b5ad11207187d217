"""The device's random numbers: keys drawn from a generator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ._torch_compat import NAME, OpOverload


class DeviceGenerator(torch.Generator):
    """A generator of the device's. Its state is the CPU's: programs draw from keys, and this only draws keys."""

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The device, by which libraries choose where to draw."""
        return torch.device(NAME, 0)

    def clone_state(self) -> DeviceGenerator:
        """Return a new generator in the same state."""
        return _restored(self.get_state())

    def graphsafe_get_state(self) -> DeviceGenerator:
        """Return a new generator in the same state."""
        return self.clone_state()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.get_state(),)

    def __repr__(self) -> str:
        return f"<torch.Generator of {self.device}, seed {self.initial_seed()}>"


def _restored(state: torch.Tensor) -> DeviceGenerator:
    made = DeviceGenerator()
    made.set_state(state)
    return made


# Seeded by torch.manual_seed like every device's.
_generator = DeviceGenerator()
_generator.manual_seed(torch.initial_seed())


def generator() -> DeviceGenerator:
    """Return the generator that the device's keys come from."""
    return _generator


# What the shard of a DTensor that is being drawn folds into keys, and the generator of the call.
_drawing: list[tuple[int, torch.Generator | None]] = []


def draw_keys(count: int, chosen: torch.Generator | None = None) -> torch.Tensor:
    """Return `count` random keys, an int64 vector on the CPU, from `chosen` or else the device's generator."""
    keys = torch.empty(count, dtype=torch.int64, device="cpu")
    if not _drawing:
        return keys.random_(generator=chosen or _generator)
    part, generator = _drawing[-1]
    return keys.random_(generator=generator or chosen or _generator).bitwise_xor_(part)


def fold_of(shard: int) -> int:
    """Return what the keys of a shard are combined with bit by bit, an int64; nothing for the first."""
    bits = shard * 0x9E3779B97F4A7C15 % 2**64
    return bits - 2**64 if bits >= 2**63 else bits


@contextmanager
def drawing_shard(shard: int, generator: torch.Generator | None) -> Iterator[None]:
    """Let the operators within draw the numbers of one shard of a DTensor.

    Equal shards get equal numbers and others get others, and the generator goes on as on every other rank.
    """
    _drawing.append((fold_of(shard), generator))
    try:
        yield
    finally:
        _drawing.pop()


def check_draw(operator: OpOverload, named: dict[str, Any]) -> None:
    """Raise PyTorch's own error if an in-place draw has wrong numbers for the dtype, as `x.random_(0, 300)` for uint8.

    named: the call's arguments. The check is the same draw into a CPU tensor without elements. Operators that draw
    nothing, and calls with other tensors than `self`, are not checked.
    """
    arguments = operator._schema.arguments
    tensors = [argument.name for argument in arguments if "Tensor" in str(argument.type)]
    writes = arguments[0].alias_info is not None and arguments[0].alias_info.is_write
    if torch.Tag.nondeterministic_seeded in operator.tags and writes and tensors == ["self"]:
        operator(**{**named, "self": torch.empty(0, dtype=named["self"].dtype, device="cpu"), "generator": None})
