"""Reading the gradients of a spelled-out attention, as autograd writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from .spelled_nodes import Matrix, factor, is_plain, matrix, number, plain, product_of, uses
from .spelled_scores import Scores

aten = torch.ops.aten

_FILLS = {aten.masked_fill.Scalar, aten.masked_fill.Tensor}


@dataclass
class Gradients:
    """The products that are gradients of query, key and value, each maybe transposed, and what they are made of.

    grad_out, value: with the elements of [batch, heads, length, features]; None where no gradient is there.
    """

    of_query: list[Matrix] = field(default_factory=list)
    of_key: list[Matrix] = field(default_factory=list)
    of_value: list[Matrix] = field(default_factory=list)
    grad_out: Matrix | None = None
    value: Matrix | None = None

    @property
    def nodes(self) -> list[Node]:
        """All products."""
        return [each.node for each in (*self.of_query, *self.of_key, *self.of_value)]


def read_gradients(softmax: Node, scores: Scores, values: Mapping[Node, torch.Tensor]) -> Gradients | None:
    """Read the gradients that are made of a softmax; None where they are another function's."""
    found, grads_out = Gradients(), set[Matrix]()
    through: list[Node] = []
    for user, position, turned in uses(softmax, scores.shape[-2:]):
        if position is None:
            return None
        if user.target is aten._softmax_backward_data.default and position == 1:
            through.append(user)
        elif user.target is aten.bmm.default and turned == (position == 0):
            other = product_of(user)[1 - position]
            grads_out.add(other.transposed if position == 1 else other)
            found.of_value.append(Matrix(user, position == 1))
    if len(through) > 1:
        return None
    if through:
        of_probabilities = _gradient_of_probabilities(through[0])
        if of_probabilities is None or not _read_scores(through[0], scores, values, found):
            return None
        grads_out.add(of_probabilities[0])
        found.value = of_probabilities[1]
    if len(grads_out) > 1:
        return None
    found.grad_out = next(iter(grads_out), None)
    return found


def _gradient_of_probabilities(backward: Node) -> tuple[Matrix, Matrix] | None:
    """Return the gradient of the output, and the values, whose product is the gradient that softmax's takes."""
    product, turned = matrix(backward.all_input_nodes[0], casts=True)
    if product.target is not aten.bmm.default:
        return None
    gradient, value = product_of(product)
    if turned:
        gradient, value = value.transposed, gradient.transposed
    return gradient, value.transposed


def _read_scores(backward: Node, scores: Scores, values: Mapping[Node, torch.Tensor], found: Gradients) -> bool:
    """Read the gradients of query and key from that of softmax on; False for another function's."""
    node, total = _follow(backward, scores, values)
    (user, *others) = [*node.users, None, None]
    if user is None or user.target is not aten.tanh_backward.default or others[0] is not None:
        return False
    gradient, result = user.args
    if gradient is not node or plain(result) is not scores.tanh or not _same(total, scores.after):
        return False
    node, total = _follow(user, None, values)
    if not _same(total, scores.before):
        return False
    for product, position, turned in uses(node, scores.shape[-2:]):
        if product.target is not aten.bmm.default or position is None:
            return False
        other = product_of(product)[1 - position]
        of_query = turned == (position == 1)
        if other != _operand(scores, of_query, position):
            return False
        (found.of_query if of_query else found.of_key).append(Matrix(product, position == 1))
    return True


def _operand(scores: Scores, of_query: bool, position: int) -> Matrix:
    """Return what the scores' gradient, as an operand of this position, is multiplied by."""
    if of_query:
        return scores.key if position == 1 else scores.key.transposed
    return scores.query.transposed if position == 1 else scores.query


def _follow(node: Node, scores: Scores | None, values: Mapping[Node, torch.Tensor]) -> tuple[Node, float]:
    """Return what becomes of a gradient by views, casts, factors and the mask's choice, and the product of factors."""
    total = 1.0
    while len(node.users) == 1:
        (user,) = node.users
        if (multiplied := factor(user, values)) is not None:
            total *= multiplied[1]
        elif not is_plain(user) and not (scores is not None and _is_choice(user, node, scores, values)):
            break
        node = user
    return node, total


def _is_choice(user: Node, node: Node, scores: Scores, values: Mapping[Node, torch.Tensor]) -> bool:
    """Tell whether a node has a gradient where scores were not replaced, and zero elsewhere."""
    if scores.choice is None or user.target not in {*_FILLS, aten.where.self}:
        return False
    if user.target in _FILLS:
        (kept, mask, zero), hides = user.args, True
    else:
        mask, first, second = user.args
        hides = second is node
        kept, zero = (second, first) if hides else (first, second)
    same = isinstance(mask, Node) and plain(mask) is plain(scores.choice[0]) and hides == scores.choice[1]
    return same and kept is node and number(zero, values) == 0


def _same(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=1e-6)
