"""Sizes that the job pads to buckets: each bucket is a case of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..buckets import Buckets, buckets_of, parse_buckets
from .manifest import Common, Model
from .shapes import DimTable, TensorInput

# Bounds, `min` and `max` or none, by the names of dimensions.
Marked = dict[str, dict[str, int]]


def padded_dims(model: Model, common: Common) -> dict[str, DimTable]:
    """Return the dimensions that change within a process which pads; none where its options have no buckets."""
    if not (common.options or {}).get("buckets") or common.dynamic is False:
        return {}
    return {name: dim for name, dim in model.dims.items() if isinstance(dim, DimTable) and dim.dynamic}


def buckets_of_dims(
    model: Model, common: Common, padded: Mapping[str, DimTable]
) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    """Yield, for each choice of buckets and of listed sizes, what the case's name shows and the sizes of its call."""
    choices: dict[str, list[int]] = {}
    for name, dim in model.dims.items():
        if name in padded:
            choices[name] = _buckets_of_dim(name, padded[name], model, common)
        else:
            choices[name] = dim.sizes if isinstance(dim, DimTable) else [dim] if isinstance(dim, int) else dim
    for chosen in itertools.product(*choices.values()):
        sizes = dict(zip(choices, chosen, strict=True))
        shown = {name: f"..{size}" if name in padded else size for name, size in sizes.items()}
        yield shown, _apart(sizes, {name: choices[name] for name in padded})


def _buckets_of_dim(name: str, dim: DimTable, model: Model, common: Common) -> list[int]:
    table = parse_buckets((common.options or {})["buckets"])
    for source in _sources(name, model):
        if (buckets := buckets_of(table, source)) is not None:
            return dim.padded_to(buckets)
    # By position, an input's name in the model's code is not known; the number of the dimension tells enough.
    places = {place for _, place in _places(name, model)} if isinstance(model.inputs, list) else set()
    named = [buckets for source, buckets in table if any(source.endswith(f"[{place}]") for place in places)]
    return dim.padded_to(named[0] if named else Buckets(sizes=tuple(sorted(dim.sizes))))


def _sources(name: str, model: Model) -> list[str]:
    return [f"L['{owner}'].size()[{place}]" for owner, place in _places(name, model)]


def _places(name: str, model: Model) -> list[tuple[str, int]]:
    """Return the inputs that have a dimension, with its place in each."""
    inputs = model.inputs if isinstance(model.inputs, dict) else dict(enumerate(model.inputs or []))
    return [
        (str(owner), place)
        for owner, given in inputs.items()
        for tensor in (given if isinstance(given, list) else [given])
        if isinstance(tensor, TensorInput)
        for place, size in enumerate(tensor.shape)
        if size == name
    ]


def _apart(sizes: Mapping[str, int], buckets: Mapping[str, list[int]]) -> dict[str, int]:
    """Return sizes in the same buckets that are all different if they can be: Dynamo takes equal ones for one size."""
    called: dict[str, int] = {name: size for name, size in sizes.items() if name not in buckets}
    for name in buckets:
        below = max([size for size in buckets[name] if size < sizes[name]], default=1)
        free = [size for size in range(sizes[name], below, -1) if size not in called.values()]
        called[name] = free[0] if free else sizes[name]
    return {name: called[name] for name in sizes}
