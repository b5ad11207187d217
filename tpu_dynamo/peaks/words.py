"""A peak in words: what holds the memory, and what would need less."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import DoesNotFit, HeldValue, Peak, ProgramMemory, peak_of

from ..formatting import format_bytes
from .owners import Interface, owned_peak
from .remedies import Remedy, remedies

_OWNERS, _VALUES = 6, 5


def memory_needed(program: Program, refusal: DoesNotFit) -> ProgramMemory:
    """Return the memory of a program that XLA refused for its size: its tensors, and what it needs in all."""
    arguments = sum(argument.spec.nbytes for argument in program.arguments)
    outputs = sum(result.nbytes for result in program.results)
    # XLA rounds what it needs to hundredths of a GiB, and may refuse for one kind of memory alone.
    total = max(refusal.needed, arguments + outputs)
    return ProgramMemory(arguments, outputs, 0, total - arguments - outputs, 0, total, refusal.available)


def refusal_in_words(refusal: DoesNotFit, memory: ProgramMemory, interface: Interface) -> DoesNotFit:
    """Return a refusal that says what holds the memory and what would need less, where XLA got as far as that."""
    if refusal.assignment is None or (found := peak_of(refusal.assignment, memory)) is None:
        return refusal
    peak = owned_peak(found, interface)
    return refusal.explained(peak_in_words(peak, remedies(peak, interface), refusal.available))


def peak_in_words(peak: Peak, found: Sequence[Remedy], available: int | None = None) -> str:
    """Return lines about owners, the largest values and remedies, each of which begins with two spaces."""
    owners = [f"{owner} {format_bytes(nbytes)}" for owner, nbytes in list(peak.by_owner().items())[:_OWNERS]]
    lines = [f"  it holds {', '.join(owners)}"]
    lines += [f"    {format_bytes(value.nbytes):>10}  {described(value)}" for value in peak.values[:_VALUES]]
    for number, remedy in enumerate(found):
        fits = available is not None and peak.figure > available >= peak.figure - remedy.gain
        lines.append(f"  {'try:' if not number else '    '} {remedy}{'; it fits then' if fits else ''}")
    return "\n".join(lines)


def described(value: HeldValue) -> str:
    """Return a value's name, dtype, sizes and line, as `wte.weight f32[50257, 768] (model.py:12)`."""
    shape = f" {value.dtype}[{', '.join(map(str, value.shape))}]" if value.dtype else ""
    where = f" ({os.path.basename(value.file)}:{value.line})" if value.file else ""
    return f"{value.name}{shape}{where}"
