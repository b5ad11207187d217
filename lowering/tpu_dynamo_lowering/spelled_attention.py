"""Attention that a graph spells out with a soft cap, and its gradients, as the operators that kernels compute."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import computing
from .attention_operators import ATTENTION, ATTENTION_BACKWARD
from .spelled_gradients import Gradients, read_gradients
from .spelled_nodes import Matrix, has_matrices, product_of, uses
from .spelled_scores import Scores, read_scores

aten = torch.ops.aten

_Values = Mapping[Node, torch.Tensor]

# So many nodes before a softmax there is the product of its scores.
_NEAR = 16


def name_capped_attention(graph: Graph, constants: Callable[[], _Values]) -> None:
    """Put an operator in the place of each attention with a soft cap, and one in that of its gradients, in place.

    Such an attention is softmax(cap * tanh(scale * query @ key^T / cap), hidden by a mask) @ value, in whatever order
    its factors come, without dropout. Its scores are then in no memory, and no backward graph needs them. Where
    something else reads them, or the probabilities, all stays as it is. constants: gives the tensors that depend on no
    input.
    """
    capped = [node for node in graph.nodes if node.target is aten._softmax.default and _may_be_capped(node)]
    if not capped:
        return
    values = constants()
    with computing():
        for node in capped:
            _name(node, values)
    graph.eliminate_dead_code()


def _may_be_capped(softmax: Node) -> bool:
    """Tell whether there is a tanh not far before a softmax, and all sizes are numbers."""
    if not all(isinstance(size, int) for size in softmax.meta["val"].shape):
        return False
    near = {softmax}
    for _ in range(_NEAR):
        near = {each for node in near for each in node.all_input_nodes if has_matrices(each)}
        if any(node.target is aten.tanh.default for node in near):
            return True
    return False


def _name(softmax: Node, values: _Values) -> None:
    scores = read_scores(softmax, values)
    gradients = read_gradients(softmax, scores, values) if scores is not None else None
    if scores is None or gradients is None:
        return
    if gradients.nodes and scores.choice is not None and scores.unseen != "zero":
        return  # a row that sees nothing has gradients of values alone
    output = _output_of(softmax, scores)
    value = gradients.value if output is None else product_of(output)[1]
    if value is None or gradients.value not in (None, value) or (gradients.nodes and gradients.grad_out is None):
        return
    results = {*gradients.nodes, *([] if output is None else [output])}
    operands = [scores.query, scores.key.transposed, value]
    if len({each.node.meta["val"].dtype for each in operands}) == 1 and _is_for(scores.product, results):
        _Writer(softmax, scores, operands).write(output, gradients)


def _output_of(softmax: Node, scores: Scores) -> Node | None:
    """Return the product of probabilities and values."""
    for user, position, turned in uses(softmax, scores.shape[-2:]):
        if user.target is aten.bmm.default and position == 0 and not turned:
            return user
    return None


def _is_for(start: Node, results: set[Node]) -> bool:
    """Tell whether nothing but `results` comes of a node."""
    seen, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        if node.op != "call_function" or node.is_impure():
            return False
        fresh = [user for user in node.users if user not in results and user not in seen]
        seen.update(fresh)
        waiting += fresh
    return True


class _Writer:
    """Writes the operators of one attention: that of its result, and that of its gradients."""

    def __init__(self, softmax: Node, scores: Scores, operands: list[Matrix]):
        self._softmax, self._scores, self._operands = softmax, scores, operands
        self._graph, self._mode = softmax.graph, softmax.meta["val"].fake_mode
        self._before = self._origin = softmax

    def write(self, output: Node | None, gradients: Gradients) -> None:
        """Replace the product that is the output, if it is there, and the gradients; nothing where no place fits."""
        mask_nodes = [self._scores.mask, *(self._scores.segments or ())]
        needed = [*(each.node for each in self._operands), *(each for each in mask_nodes if each is not None)]
        results = gradients.nodes
        places = {node: i for i, node in enumerate(self._graph.nodes)}
        later = None
        if gradients.grad_out is not None:
            later = _place(places, [*needed, gradients.grad_out.node], results)
            if later is None:
                return
        before = _place(places, needed, [output]) if output is not None else later
        if before is None or (later is not None and places[before] > places[later]):
            return
        self._before, self._origin = before, output or self._softmax
        operands, mask = self._shaped_operands(), self._mask()
        forward = self._call(ATTENTION, *operands, *mask)
        out, normaliser = self._item(forward, 0), self._item(forward, 1)
        if output is not None:
            self._replace(Matrix(output, False), out)
        if later is None or gradients.grad_out is None:
            return
        self._before, self._origin = later, results[0]
        grad_out = self._shaped(gradients.grad_out, out.meta["val"].shape)
        backward = self._call(ATTENTION_BACKWARD, grad_out, *operands, out, normaliser, *mask)
        for i, found in enumerate((gradients.of_query, gradients.of_key, gradients.of_value)):
            item = self._item(backward, i) if found else None
            for result in found:
                self._replace(result, item)  # pyright: ignore[reportArgumentType]

    def _shaped_operands(self) -> list[Node]:
        """Return query, key and value as [batch, heads, length, features]."""
        lead, lengths = self._scores.shape[:2], self._scores.shape[2:]
        return [
            self._shaped(each, (*lead, length, each.node.meta["val"].numel() // (math.prod(lead) * length)))
            for each, length in zip(self._operands, (*lengths, lengths[1]), strict=True)
        ]

    def _shaped(self, given: Matrix, shape: Sequence[int]) -> Node:
        """Return matrices as [batch, heads, rows, columns]."""
        if not given.turned:
            return self._of_shape(given.node, shape)
        turned = self._of_shape(given.node, (*shape[:-2], shape[-1], shape[-2]))
        return self._call(aten.transpose.int, turned, -1, -2)

    def _mask(self) -> tuple[Any, ...]:
        scores, mask = self._scores, self._scores.mask
        if mask is not None and scores.inverted:
            mask = self._call(aten.logical_not.default, mask)
        segments = scores.segments or (None, None)
        rows = [None if each is None else self._rows(each) for each in segments]
        return scores.scale, *scores.band, *rows, mask, scores.cap, scores.unseen

    def _rows(self, node: Node) -> Node:
        """Return [batch, length] of what is [batch, 1, length, 1] or [batch, 1, 1, length], or has fewer dimensions."""
        value = node.meta["val"]
        length = max(value.shape[-2:])
        return self._of_shape(node, (value.numel() // length, length))

    def _replace(self, result: Matrix, by: Node) -> None:
        """Put a result of an operator, [batch, heads, rows, columns], in the place of a product, maybe transposed."""
        if result.turned:
            by = self._call(aten.transpose.int, by, -1, -2)
        by = self._of_shape(by, result.node.meta["val"].shape)
        if by.meta["val"].dtype != result.node.meta["val"].dtype:
            by = self._call(aten._to_copy.default, by, dtype=result.node.meta["val"].dtype)
        result.node.replace_all_uses_with(by)

    def _of_shape(self, node: Node, shape: Sequence[int]) -> Node:
        """Return a node's elements in another shape, by operators that a partitioner lets a backward graph repeat."""
        value = node.meta["val"]
        if value.shape == torch.Size(shape):
            return node
        if not value.is_contiguous():
            node = self._call(aten.clone.default, node, memory_format=torch.contiguous_format)
        return self._call(aten.view.default, node, list(shape))

    def _item(self, node: Node, position: int) -> Node:
        with self._graph.inserting_before(self._before):
            item = self._graph.call_function(operator.getitem, (node, position))
        item.meta = {**node.meta, "val": node.meta["val"][position]}
        return item

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        with self._graph.inserting_before(self._before):
            node = self._graph.call_function(target, args, kwargs)
        fakes = torch.fx.map_arg((args, kwargs), lambda each: each.meta["val"])
        with self._mode:
            value = target(*fakes[0], **fakes[1])
        node.meta = {key: each for key, each in self._origin.meta.items() if key != "tensor_meta"} | {"val": value}
        return node


def _place(places: Mapping[Node, int], needed: list[Node], results: list[Node]) -> Node | None:
    """Return a node that is behind all that is needed and before all that reads the results; None without one."""
    last = max(needed, key=places.__getitem__)
    first = min(results, key=places.__getitem__)
    before = first if places[last] < places[first] else last.next
    users = [places[user] for node in results for user in node.users]
    return before if places.get(before, len(places)) <= min(users, default=len(places)) else None
