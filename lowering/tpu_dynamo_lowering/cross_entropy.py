"""Cross entropy without passes over all classes that only move what is known of one class a row."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode

aten = torch.ops.aten

# Hides a row from a loss of one class, whose number is 0.
_IGNORED = -100
_ALIASES = {aten.detach.default, aten.alias.default}


def pick_classes(graph: Graph, mode: FakeTensorMode) -> None:
    """Compute losses of log softmax from the scores of their targets, in place, and sum no gradient of one class.

    A loss reads one number a row, for which all log probabilities [rows, classes] would be written to memory: the
    gradient computes them again where it needs them. It also adds up each row's gradient, of which the loss made all
    but one number zero. Values are the same; where half precision rounds each log probability, the gradient does not.
    """
    for node in list(graph.nodes):
        if node.target is aten._log_softmax.default and node.meta["val"].ndim == 2 and node.args[1] in (1, -1):
            losses = [user for user in _users(node) if user.target is aten.nll_loss_forward.default]
            if any(_is_plain(loss) for loss in losses):
                _pick(_Insertion(graph, mode, node), node)
    graph.eliminate_dead_code()


class _Insertion:
    """Inserts calls that stand for others, with their metadata and source lines."""

    def __init__(self, graph: Graph, mode: FakeTensorMode, origin: Node):
        self.graph = graph
        self.mode = mode
        self.origin = origin

    def at(self, origin: Node) -> _Insertion:
        return _Insertion(self.graph, self.mode, origin)

    def __call__(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        with self.graph.inserting_before(self.origin):
            node = self.graph.call_function(target, args, kwargs)
        node.meta = dict(self.origin.meta)
        with self.mode:
            fakes = torch.fx.map_arg((args, kwargs), lambda one: one.meta["val"])
            node.meta["val"] = target(*fakes[0], **fakes[1])
        return node


def _users(node: Node) -> list[Node]:
    """Return the users of a node and of the aliases that autograd saves of it."""
    found: list[Node] = []
    for user in node.users:
        found += _users(user) if user.target in _ALIASES else [user]
    return found


def _is_plain(loss: Node) -> bool:
    """Tell whether a loss, or a loss's gradient, weighs all classes of a batch alike."""
    arguments: Any = loss.args
    target, weight = arguments[1:3] if loss.target is aten.nll_loss_forward.default else arguments[2:4]
    return weight is None and target.meta["val"].ndim == 1


def _pick(call: _Insertion, node: Node) -> None:
    scores, dtype = node.all_input_nodes[0], node.meta["val"].dtype
    wide = torch.promote_types(scores.meta["val"].dtype, torch.float32)

    def widened(call: _Insertion, value: Node) -> Any:
        return value if value.meta["val"].dtype == wide else call(aten._to_copy.default, value, dtype=wide)

    def narrowed(call: _Insertion, value: Node) -> Any:
        return value if value.meta["val"].dtype == dtype else call(aten._to_copy.default, value, dtype=dtype)

    top = widened(call, call(aten.amax.default, scores, [1], True))
    shifted = call(aten.sub.Tensor, widened(call, scores), top)
    total = call(aten.log.default, call(aten.sum.dim_IntList, call(aten.exp.default, shifted), [1], True))
    shares = call(aten.sub.Tensor, shifted, total)
    for user in _users(node):
        if user.target is aten.nll_loss_forward.default and _is_plain(user):
            arguments: Any = user.args
            _, target, _, reduction, ignored = arguments
            there = call.at(user)
            seen, first = _one_class(there, target, ignored)
            row = there(aten.unsqueeze.default, there(aten.where.self, seen, target, first), 1)
            chosen = _chosen(there, widened(there, scores), row)
            share = there(aten.sub.Tensor, there(aten.sub.Tensor, chosen, top), total)
            hidden = _hidden(there, seen, first)
            loss = there(aten.nll_loss_forward.default, share, hidden, None, reduction, _IGNORED)
            for result in list(user.users):
                found = there.at(result)(operator.getitem, loss, result.args[1])
                result.replace_all_uses_with(narrowed(there.at(result), found))
        elif user.target is aten._log_softmax_backward_data.default:
            _sum_one_class(call.at(user), user, shares, widened)
    if node.users:
        node.replace_all_uses_with(narrowed(call, shares))


def _chosen(call: _Insertion, scores: Node, row: Node) -> Any:
    """Sum each row's scores of one class: a gather would want them in memory in another order."""
    device = scores.meta["val"].device
    classes = call(aten.arange.default, scores.meta["val"].shape[1], device=device)
    zero = call(aten.scalar_tensor.default, 0.0, dtype=scores.meta["val"].dtype, device=device)
    hit = call(aten.eq.Tensor, classes, row)
    return call(aten.sum.dim_IntList, call(aten.where.self, hit, scores, zero), [1], True)


def _one_class(call: _Insertion, target: Node, ignored: int) -> tuple[Any, Any]:
    """Return which rows count, and the number of a single class for each."""
    return call(aten.ne.Scalar, target, ignored), call(aten.zeros_like.default, target)


def _hidden(call: _Insertion, seen: Node, first: Node) -> Any:
    return call(aten.where.self, seen, first, call(aten.full_like.default, first, _IGNORED))


def _sum_one_class(call: _Insertion, gradient: Node, shares: Node, widened: Any) -> None:
    """Replace log softmax's gradient, if what it is given is that of a loss of one class a row."""
    given: Any = gradient.args
    of_shares, _, _, dtype = given
    if of_shares.target is not aten.nll_loss_backward.default:
        return
    if not _is_plain(of_shares) or of_shares.meta["val"].dtype != dtype:
        return
    grad, scores, target, _, reduction, ignored, count = of_shares.args
    seen, first = _one_class(call, target, ignored)
    one = call(aten.slice.Tensor, scores, 1, 0, 1)
    hidden = _hidden(call, seen, first)
    sums = call(aten.nll_loss_backward.default, grad, one, hidden, None, reduction, _IGNORED, count)
    weighted = call(aten.mul.Tensor, call(aten.exp.default, shares), widened(call, sums))
    result = call(aten.sub.Tensor, widened(call, of_shares), weighted)
    if dtype != result.meta["val"].dtype:
        result = call(aten._to_copy.default, result, dtype=dtype)
    gradient.replace_all_uses_with(result)
