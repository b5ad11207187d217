"""Reading the scores of a spelled-out attention: the product, its factors, its cap, and the mask."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch.fx import Node

from .mask_reading import behind_barrier, read_mask
from .spelled_nodes import Matrix, factors, has_matrices, number, plain, product_of

aten = torch.ops.aten

_ADDED = {aten.expand.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default}
_NOTS = {aten.bitwise_not.default, aten.logical_not.default}
_FILLS = {aten.masked_fill.Scalar, aten.masked_fill.Tensor}


@dataclass(frozen=True)
class Scores:
    """The capped scores of an attention, by the nodes that they are made of.

    product: of queries and keys. query, key: its operands, with the elements of [batch, heads, queries, features] and
    [batch, heads, features, keys]. shape: [batch, heads, queries, keys]. before: the factor of tanh's operand; after:
    that of its result. band, segments, mask, unseen: as the attention's operator has them, but for segments' shape.
    inverted: whether a boolean mask is true for what is hidden. choice: the mask by which scores are replaced, not
    added to, and whether that hides by being true.
    """

    product: Node
    tanh: Node
    query: Matrix
    key: Matrix
    shape: tuple[int, ...]
    before: float
    after: float
    band: tuple[int | None, int | None] = (None, None)
    segments: tuple[Node, Node] | None = None
    mask: Node | None = None
    inverted: bool = False
    unseen: str = "zero"
    choice: tuple[Node, bool] | None = None

    @property
    def cap(self) -> float:
        """The bound of scores."""
        return abs(self.after)

    @property
    def scale(self) -> float:
        """The factor of products, which come before the cap."""
        return self.before * self.after


@dataclass(frozen=True)
class _Mask:
    """A mask as a graph applies it. hides: as in Scores. by: what replaces hidden scores, None for what is added."""

    node: Node
    hides: bool = False
    by: object = None


def read_scores(softmax: Node, values: Mapping[Node, torch.Tensor]) -> Scores | None:
    """Read what a softmax is of; None for anything but the capped scores of an attention.

    values: the tensors that depend on no input.
    """
    size = softmax.meta["val"].shape
    if len(size) not in (3, 4) or softmax.args[1] not in (-1, len(size) - 1):
        return None
    node, mask = plain(softmax.all_input_nodes[0]), None
    if (found := _masked(node)) is not None:
        size = node.meta["val"].shape if node.meta["val"].ndim == 4 else size
        node, mask = found
    tanh, after = factors(node, values)
    if tanh.target is not aten.tanh.default:
        return None
    product, before = factors(tanh.all_input_nodes[0], values)
    if product.target is not aten.bmm.default or not all(map(_is_factor, (before, after))):
        return None
    query, key = product_of(product)
    shape = (*(1,) * (4 - len(size)), *size)
    value = product.meta["val"]
    if value.shape[-2:] != shape[-2:] or value.numel() != math.prod(shape) or not value.numel():
        return None
    scores = Scores(product, tanh, query, key, shape, before, after)
    return scores if mask is None else _with_mask(scores, mask, values)


def _is_factor(value: float) -> bool:
    return value != 0 and math.isfinite(value)


def _masked(node: Node) -> tuple[Node, _Mask] | None:
    """Return scores before a mask, and the mask."""
    arguments = node.args
    if node.target is aten.add.Tensor and node.kwargs.get("alpha", 1) == 1 and len(node.all_input_nodes) == 2:
        scores, mask = sorted(node.all_input_nodes, key=_is_capped, reverse=True)
        return (scores, _Mask(mask)) if _is_capped(scores) and not _is_capped(mask) else None
    if node.target in _FILLS:
        scores, mask, by = arguments
        return scores, _Mask(mask, True, by)  # pyright: ignore
    if node.target is aten.where.self:
        mask, left, right = arguments
        left_is_hidden = not _is_capped(left)  # pyright: ignore[reportArgumentType]
        scores, by = (right, left) if left_is_hidden else (left, right)
        return scores, _Mask(mask, left_is_hidden, by)  # pyright: ignore
    return None


def _is_capped(node: Node) -> bool:
    """Tell whether a node has what tanh gives, times numbers."""
    while node.op == "call_function" and node.target is not aten.tanh.default:
        inputs = [each for each in node.all_input_nodes if has_matrices(each)]
        if len(inputs) != 1:
            return False
        node = inputs[0]
    return node.op == "call_function"


def _with_mask(scores: Scores, mask: _Mask, values: Mapping[Node, torch.Tensor]) -> Scores | None:
    """Return scores with their mask: in words where it can be read, else as a tensor; None for what is no mask."""
    chosen = mask.by is not None
    visible, hidden, known = _of_choice(mask, values) if chosen else _of_added(mask.node, values)
    scores = replace(scores, choice=(mask.node, mask.hides) if chosen else None)
    if visible is not None and hidden is not None and _vanishes(hidden, scores):
        found = read_mask(visible, known, *scores.shape[-2:])
        band = found.band(scores.shape[-1]) if found is not None else None
        if found is not None and band is not None:
            if found.segments is None and found.shown is None and bool((found.first < found.last).all()):
                return replace(scores, band=band)
            if hidden == -math.inf or chosen or _absorbs(hidden, scores, mask.node.meta["val"].dtype):
                unseen = "nan" if hidden == -math.inf else "mean"
                return replace(scores, band=band, segments=found.segments, mask=found.shown, unseen=unseen)
    if not chosen:
        floats = mask.node.meta["val"].dtype.is_floating_point
        return replace(scores, mask=mask.node, unseen="nan") if floats else None
    return replace(scores, mask=mask.node, inverted=mask.hides, unseen="nan") if hidden == -math.inf else None


def _absorbs(hidden: float, scores: Scores, dtype: torch.dtype) -> bool:
    """Tell whether all that is hidden in a row has one score: no digit of what `hidden` is added to is left."""
    return abs(hidden) * torch.finfo(dtype).eps > 4 * scores.cap


def _vanishes(hidden: float, scores: Scores) -> bool:
    """Tell whether a probability is zero in a row that sees a key if `hidden` is added to its score, or replaces it."""
    least = -800 if scores.product.meta["val"].dtype == torch.float64 else -110
    return hidden + 2 * scores.cap < least


_Read = tuple[Node | None, float | None, Mapping[Node, torch.Tensor]]


def _of_added(node: Node, values: Mapping[Node, torch.Tensor]) -> _Read:
    """Return the boolean mask of which a node makes zeros and another number, that number, and the values by now."""
    while (held := behind_barrier(node)) is not None or node.target in _ADDED:
        node = held or node.all_input_nodes[0]
    if node in values:
        shown = values[node] == 0
        others = values[node][~shown].unique()
        if len(others) > 1:
            return None, None, values
        return node, float(others) if len(others) else -math.inf, ChainMap({node: shown}, values)  # pyright: ignore
    if node.target is not aten.where.self or number(node.args[1], values) != 0:
        return None, None, values
    return node.args[0], number(node.args[2], values), values  # pyright: ignore[reportReturnType]


def _of_choice(mask: _Mask, values: Mapping[Node, torch.Tensor]) -> _Read:
    """Return the boolean mask that is true for what is seen, as `_of_added` does."""
    by = number(mask.by, values)
    if not mask.hides:
        return mask.node, by, values
    if mask.node in values:
        return mask.node, by, ChainMap({mask.node: ~values[mask.node]}, values)  # pyright: ignore
    return mask.node.all_input_nodes[0] if mask.node.target in _NOTS else None, by, values
