"""The device's random numbers: keys drawn from a generator of its own."""

from __future__ import annotations

from typing import Any

import torch

from ._torch_compat import OpOverload

# On the CPU: programs draw from keys, and this only draws keys. Seeded by torch.manual_seed like every device's.
_generator = torch.Generator()
_generator.manual_seed(torch.initial_seed())


def generator() -> torch.Generator:
    """Return the generator that the device's keys come from."""
    return _generator


def draw_keys(count: int, chosen: torch.Generator | None = None) -> torch.Tensor:
    """Return `count` random keys, an int64 vector on the CPU, from `chosen` or else the device's generator."""
    return torch.empty(count, dtype=torch.int64, device="cpu").random_(generator=chosen or _generator)


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
