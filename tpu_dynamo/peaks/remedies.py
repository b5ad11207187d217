"""Changes that make a program's peak smaller, with their gains: estimates from the values that are alive at it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tpu_dynamo_runtime import HeldValue, Peak

from ..formatting import format_bytes, format_count
from .owners import (
    ACTIVATIONS,
    CONSTANTS,
    INPUTS,
    INTERMEDIATE,
    OUTPUTS,
    PARAMETERS,
    STATE,
    UPDATES,
    Interface,
)

# Below this share of the peak a remedy is not worth its words.
_LEAST = 0.01
_WIDE = {"f32": 4, "f64": 8}
# Values of blocks that are smaller than the largest by more than this factor count for nothing.
_LARGE = 16


@dataclass(frozen=True)
class Remedy:
    """One change that makes the peak smaller.

    what: in a few words. gain: bytes, by estimate. how: what to write, and what it costs; empty where that is plain.
    """

    what: str
    gain: int
    how: str

    def __str__(self) -> str:
        text = f"{self.what}: about {format_bytes(self.gain)} less"
        return f"{text}; {self.how}" if self.how else text


def remedies(peak: Peak, interface: Interface, most: int = 3) -> list[Remedy]:
    """Return the cheapest remedies that are worth it, in the order of what they cost the user.

    That is first what changes no number and takes no time, then what takes time, then what changes training.
    """
    found = [each for each in _all(peak, interface) if each.gain >= _LEAST * peak.figure]
    return found[:most]


def _all(peak: Peak, interface: Interface) -> Iterator[Remedy]:
    values = peak.values
    yield _donation(values)
    yield _padding(values)
    # XLA's compiler for CPUs merges what a step computes again with the first time.
    on_cpu = interface.platform == "cpu"
    if interface.role in ("forward", "backward") or (interface.role == "step" and not on_cpu):
        yield _checkpointing(values, interface)
    yield _half_state(values)
    if interface.batch > 1:
        yield _half_batch(values, interface)
    if not on_cpu:  # XLA's compiler for CPUs computes in float32, and converts
        yield _half_precision(values, interface)


def _donation(values: Iterable[HeldValue]) -> Remedy:
    """Estimate the gain of donating inputs whose new values lie beside the old ones."""
    refused = [value for value in values if value.owner == UPDATES]
    names = ", ".join(value.name.removeprefix("new value of ") for value in refused[:2])
    return Remedy(
        f"let {format_count(len(refused), 'new value')} take the memory of the old ({names})",
        _sum(refused),
        "their memory was refused because the program does not read the old values, or reads them in another memory "
        "order: write in place from the tensor itself, and keep it contiguous",
    )


def _padding(values: Iterable[HeldValue]) -> Remedy:
    """Estimate what the chip's layout adds to arrays whose last dimensions are small."""
    padded = sorted((v for v in values if v.padding > v.nbytes // 2), key=lambda value: -value.padding)
    shown = "" if not padded else f", as of {padded[0].dtype}{list(padded[0].shape)} for {_at(padded[0])}"
    return Remedy(
        f"avoid padding{shown}",
        sum(value.padding for value in padded),
        "make the last two dimensions the large ones: a chip's memory holds them in tiles of 8 times 128",
    )


def _checkpointing(values: Iterable[HeldValue], interface: Interface) -> Remedy:
    """Estimate the gain of recomputing what each of several equal blocks saves.

    Blocks show as values of one line, operator and shape that are there as many times as there are blocks. With
    torch.utils.checkpoint one block's values are alive at a time, and of the others only what goes in: taken for the
    smallest of the large values that each has.
    """
    groups: defaultdict[tuple[object, ...], list[HeldValue]] = defaultdict(list)
    for value in values:
        if value.owner in (INTERMEDIATE, ACTIVATIONS) and math.prod(value.shape) > 1:
            groups[value.place, value.operator, value.dtype, value.shape].append(value)
    repeated = [each for each in groups.values() if len(each) > 1]
    largest = max((each[0].nbytes for each in repeated), default=0)
    large = [each for each in repeated if each[0].nbytes >= largest / _LARGE]
    blocks = Counter(map(len, large)).most_common(1)[0][0] if large else 1
    in_a_block = sum(map(_sum, large)) // blocks
    kept = min((each[0].nbytes for each in large), default=0)
    how = "torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False) around each, whose forward runs twice then"
    if interface.role != "step":
        how += ', or options={"activation_memory_budget": 0.5}'
    return Remedy(f"checkpoint {blocks} equal blocks", (blocks - 1) * max(0, in_a_block - kept), how)


def _half_state(values: Iterable[HeldValue]) -> Remedy:
    """Estimate the gain of the optimizer's state in bfloat16."""
    state = [value for value in values if value.owner == STATE and value.dtype in _WIDE and value.shape]
    return Remedy(
        "optimizer state in bfloat16",
        sum(_halved(value) for value in state),
        "state has its parameters' dtype, so model.to(torch.bfloat16) halves it, parameters and gradients too; or an "
        "optimizer that keeps less, as Adafactor",
    )


def _half_batch(values: Iterable[HeldValue], interface: Interface) -> Remedy:
    """Estimate the gain of half the batch: half of the values whose sizes it is a factor of."""
    owners = (INTERMEDIATE, ACTIVATIONS, INPUTS, OUTPUTS)
    grown = [v for v in values if v.owner in owners and any(n % interface.batch == 0 for n in v.shape if n)]
    return Remedy(
        f"a batch of {interface.batch // 2} instead of {interface.batch}",
        _sum(grown) // 2,
        "with twice as many steps, of which the gradients may be added up" if interface.role != "inference" else "",
    )


def _half_precision(values: Iterable[HeldValue], interface: Interface) -> Remedy:
    """Estimate the gain of computing in bfloat16: intermediate values, and outside of training the parameters too."""
    owners = {INTERMEDIATE, ACTIVATIONS, OUTPUTS, INPUTS}
    owners |= {PARAMETERS, CONSTANTS} if interface.role == "inference" else set()
    wide = [value for value in values if value.owner in owners and value.dtype in _WIDE]
    how = (
        "model.to(torch.bfloat16)"
        if interface.role == "inference"
        else 'torch.autocast("tpu", dtype=torch.bfloat16) around the model'
    )
    return Remedy("compute in bfloat16", sum(_halved(value) for value in wide), how)


def _halved(value: HeldValue) -> int:
    return value.nbytes - value.nbytes * 2 // _WIDE[value.dtype]


def _sum(values: Iterable[HeldValue]) -> int:
    return sum(value.nbytes for value in values)


def _at(value: HeldValue) -> str:
    return f"{value.name} at {value.file}:{value.line}" if value.file else value.name
