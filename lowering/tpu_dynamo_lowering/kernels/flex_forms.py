"""Flexible attention that is attention with a soft cap and a window: read from its graphs of scalars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .._torch_compat import fake_mode
from ..constants import constant_values
from ..mask_reading import read_mask
from ..spelled_nodes import factors
from ..tracing import traced
from .seen_keys import Seen

aten = torch.ops.aten


def seen_of(
    score_graph: GraphModule, mask_graph: Any, shape: Sequence[int], captured: Sequence[Any]
) -> tuple[Seen, float] | None:
    """Return what queries see and the cap of scores, and a factor of scores before it; None for what is more.

    score_graph: gives the scores as they are, or cap * tanh(score / cap) in any order of its factors. mask_graph:
    compares numbers of queries with those of keys. shape: [batch, heads, queries, keys]. captured: what either graph
    takes besides, with which nothing is read.
    """
    if captured:
        return None
    capped = _cap_of(score_graph)
    band = _band_of(mask_graph, shape) if isinstance(mask_graph, GraphModule) else (None, None)
    if capped is None or band is None:
        return None
    seen = Seen(*band, cap=capped[0])
    # A mark in the row's denominator tells which rows see nothing, where there may be any.
    return seen if seen.hides_none(*shape[-2:]) else seen._replace(unseen="mean"), capped[1]


def _cap_of(graph: GraphModule) -> tuple[float | None, float] | None:
    (result,) = graph.graph.output_node().args
    result = result[0] if isinstance(result, list | tuple) else result
    score = next(iter(graph.graph.find_nodes(op="placeholder")))
    if result is score:
        return None, 1.0
    values = constant_values(graph)
    if not isinstance(result, Node):
        return None
    tanh, after = factors(result, values)
    if tanh.target is not aten.tanh.default:
        return None
    start, before = factors(tanh.all_input_nodes[0], values)
    known = start is score and all(each and math.isfinite(each) for each in (before, after))
    return (abs(after), before * after) if known else None


def _band_of(graph: GraphModule, shape: Sequence[int]) -> tuple[int | None, int | None] | None:
    """Return how far queries see to the left and to the right, by the mask for whole rows and columns of numbers."""

    def masked() -> Any:
        places = [
            torch.arange(size).view([-1 if at == dim else 1 for at in range(4)]) for dim, size in enumerate(shape)
        ]
        found = graph(*places)
        return found[0] if isinstance(found, list | tuple) else found

    queries, keys = shape[-2:]
    with torch.no_grad():
        whole = traced(masked, [], fake_mode())
    (result,) = whole.graph.output_node().args
    result: Any = result[0] if isinstance(result, list | tuple) else result
    visible = read_mask(result, constant_values(whole), queries, keys)
    if visible is None or visible.segments is not None or visible.shown is not None:
        return None
    return visible.band(keys)
