"""A device that is full, in words: which tensors hold its memory, and what would need less."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import torch

from tpu_dynamo_runtime import HeldValue, Peak

from .device_memory import memory
from .formatting import format_bytes
from .held_tensors import HeldTensor, held_tensors
from .peaks.owners import ACTIVATIONS, GRADIENTS, INPUTS, PARAMETERS, STATE, Interface
from .peaks.remedies import remedies
from .peaks.words import described

_OWNERS = {
    "parameters": PARAMETERS, "gradients": GRADIENTS, "optimizer_state": STATE, "tensors": INPUTS,
    "activations": ACTIVATIONS,
}  # fmt: skip
# XLA's names of dtypes whose size a remedy may halve.
_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
_SHOWN = 5


def held_in_words(platform: str) -> str:
    """Return lines that say what holds the device's memory and what would need less; each begins with two spaces.

    It looks at every Python object, as `tpu_dynamo.memory()` does.
    """
    values = [_value(each) for each in held_tensors()]
    values.sort(key=lambda value: -value.nbytes)
    owners = {owner.replace("_", " "): n for owner, n in asdict(memory()).items() if n}
    ranked = sorted(owners.items(), key=lambda item: -item[1])
    lines = [f"  it holds {', '.join(f'{owner} {format_bytes(nbytes)}' for owner, nbytes in ranked) or 'nothing'}"]
    lines += [f"    {format_bytes(value.nbytes):>10}  {described(value)}" for value in values[:_SHOWN]]
    peak = Peak(sum(owners.values()), tuple(values))
    role = "step" if {"gradients", "optimizer state", "activations"} & owners.keys() else "inference"
    for number, remedy in enumerate(remedies(peak, Interface(role, platform, (), (), _batch(values), frozenset()))):
        lines.append(f"  {'try:' if not number else '    '} {remedy}")
    return "\n".join(lines)


def _value(held: HeldTensor) -> HeldValue:
    cell = held.cell
    dtype = _DTYPES.get(cell.dtype, str(cell.dtype).removeprefix("torch."))
    name = held.name or {"tensors": "a tensor", "activations": "saved for the backward"}.get(held.owner, held.owner)
    return HeldValue(
        "argument", cell.nbytes, dtype=dtype, shape=cell.shape, name=name.replace("_", " "), owner=_OWNERS[held.owner]
    )


def _batch(values: list[HeldValue]) -> int:
    """Return the first size that most bytes of activations and inputs have; 1 for none."""
    counted: Counter[int] = Counter()
    for value in values:
        if value.owner in (ACTIVATIONS, INPUTS) and len(value.shape) > 1:
            counted[value.shape[0]] += value.nbytes
    return counted.most_common(1)[0][0] if counted else 1
