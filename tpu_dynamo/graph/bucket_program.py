"""A program of one bucket, and the calls that it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import sympy
import torch

from tpu_dynamo_lowering import PaddedGraph, SizeSource, dense_order, is_padded

from ..artifacts import record_event
from ..session import session
from .padding import Place, count, place
from .prepare import BoxedCallable

Lengths = Mapping[sympy.Symbol, int]


class BucketProgram:
    """A program of one bucket.

    name: says which graph's, and which bucket's, for counts. described: what it pads. numbers: the integers that it
    takes as they are, whose symbols are the last ones of `padded`.
    """

    def __init__(
        self,
        run: BoxedCallable,
        padded: PaddedGraph,
        returned: int | None,
        name: str,
        described: Mapping[str, Any],
        numbers: Sequence[SizeSource] = (),
    ):
        self._run = run
        self._numbers = numbers
        self._lengths = padded.symbols[: len(padded.symbols) - len(numbers)]
        self._name = name
        self._described = described
        self._padded = padded
        self._cut = len(padded.outputs) if returned is None else returned

    @property
    def pads(self) -> bool:
        """True if the program has larger sizes than its calls may have."""
        return bool(self._lengths)

    def at(self, sizes: Lengths) -> BoxedCallable:
        """Return what runs the program on tensors of these true sizes, with whatever numbers."""
        padded, run, sources = self._padded, self._run, self._numbers
        lengths = [int(sizes[symbol]) for symbol in self._lengths]
        fixed = torch.tensor(lengths, dtype=torch.int64, device="cpu")
        changing = {source.symbol for source in sources}
        inputs = [(i, place(extents, sizes)) for i, extents in enumerate(padded.inputs) if extents is not None]
        inputs = [(i, each) for i, each in inputs if each.shape != each.true]
        outputs = [
            (i, each, _strides(padded, i, each.true, sizes))
            for i, extents in enumerate(padded.outputs[: self._cut])
            if extents is not None and (each := place(extents, sizes)).shape != each.true
        ]
        computed = [(i, e) for i, e in padded.numbers.items() if e.free_symbols & changing]
        numbers = [(i, count(e, sizes)) for i, e in padded.numbers.items() if not e.free_symbols & changing]
        statistics = session().statistics
        key = f"{self._name} { {symbol: size for symbol, size in sizes.items() if symbol not in changing} }"
        described = self._sizes(sizes)

        def padded_call(given: list[Any]) -> list[Any]:
            now = {source.symbol: source.read(given) for source in sources}
            true = torch.tensor([*lengths, *now.values()], dtype=torch.int64, device="cpu") if now else fixed
            for i, each in inputs:
                if tuple(given[i].shape) != each.shape:  # else a padded forward graph saved it
                    given[i] = each.put(given[i])
            results = run([*given, true])
            for i, each, strides in outputs:
                results[i] = _true(results[i], each, strides)
            for i, number in numbers:
                results[i] = number
            for i, expression in computed:
                results[i] = count(expression, {**sizes, **now})
            if not lengths:
                return results
            calls = statistics.count_padded(key, described)
            if not calls & (calls - 1):  # few events, whose count is right to a factor of two
                record_event("padded calls", lambda: {**described, "key": key, "calls": calls})
            return results

        return padded_call

    def _sizes(self, sizes: Lengths) -> dict[str, Any]:
        """Describe these sizes for the report: elements are those of the inputs that are padded."""
        extents = [e for e in self._padded.inputs if e is not None and any(map(is_padded, e))]
        places = [place(each, sizes) for each in extents]
        names: Mapping[sympy.Symbol, str] = self._described["names"]
        return {
            "function": self._described["function"], "role": self._described["role"],
            "sizes": {names[symbol]: int(sizes[symbol]) for symbol in self._lengths},
            "bucket": {names[symbol]: int(self._described["bucket"][symbol]) for symbol in self._lengths},
            "elements": sum(prod(each.true) for each in places),
            "padded_elements": sum(prod(each.shape) for each in places),
        }  # fmt: skip


def _strides(padded: PaddedGraph, output: int, shape: Sequence[int], sizes: Lengths) -> list[int] | None:
    """Return the strides that a program of the true sizes gives an output; None for row-major ones.

    They are eager's, but a lone view with gaps is a tensor of its own there: a cache of which the last rows are kept
    would else have other strides after a padded step than after one of the true size, and be traced again.
    """
    expressions = padded.strides[output]
    if expressions is None or any(e.free_symbols - sizes.keys() for e in expressions):
        return None
    strides = [count(expression, sizes) for expression in expressions]
    return strides if output in padded.shared or dense_order(shape, strides) is not None else None


def _true(tensor: torch.Tensor, where: Place, strides: list[int] | None) -> torch.Tensor:
    """Return the true elements of a result, with these strides or row-major, in memory of their own."""
    taken = where.taken(tensor)
    if strides is None:
        return taken.contiguous()
    result = torch.empty_strided(taken.shape, strides, dtype=taken.dtype, device=taken.device)
    return result.copy_(taken)
