"""Sparse gradients of embeddings, taken apart: a program computes their indices and values, both of them dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode, functional_graph
from .errors import Unsupported, UnsupportedOp
from .inline import inline

aten = torch.ops.aten

_COO = aten._sparse_coo_tensor_with_dims_and_tensors.default
_BAG = aten._embedding_bag_backward.default
_SUM, _MEAN = 0, 1

# What they do to a sparse tensor they do to its values.
_ON_VALUES = {
    aten.alias.default, aten.clone.default, aten.detach.default, aten.neg.default, aten._to_copy.default,
    aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar,
}  # fmt: skip

_HINT = "make the embedding with sparse=False, or keep it outside the compiled function and on the CPU"


@dataclass(frozen=True)
class Parts:
    """A sparse COO tensor of the graph, as a sum of terms.

    terms: the indices, int64[sparse dimensions, entries], and the values, [entries, *dense dimensions], of each.
    gaps: whether entries with negative indices stand for none.
    """

    terms: tuple[tuple[Node, Node], ...]
    gaps: bool


def take_apart(graph: Graph, mode: FakeTensorMode) -> dict[Node, Parts]:
    """Take the sparse tensors of a graph apart; operators that make dense tensors of them are replaced, in place.

    The nodes of the sparse tensors stay, for the graph's output alone to use. Raises UnsupportedOp for what else uses
    them, and for sparse tensors of a device.
    """
    found: dict[Node, Parts] = {}
    problems = []
    for node in list(graph.nodes):
        try:
            parts = _parts(node, mode, found) if node.op == "call_function" else None
        except NotImplementedError as error:
            problems.append(Unsupported.at(node, str(error), _HINT))
            continue
        if parts is not None:
            found[node] = parts
    if problems:
        raise UnsupportedOp(problems)
    return found


def _parts(node: Node, mode: FakeTensorMode, found: dict[Node, Parts]) -> Parts | None:
    """Return the parts of a sparse tensor, None for a dense one. Raises NotImplementedError where it has none."""
    sparse = [found[operand] for operand in node.all_input_nodes if operand in found]
    device = node.meta["val"].device.type if isinstance(node.meta.get("val"), Tensor) else None
    if node.target is _COO:
        if device != "cpu":
            raise NotImplementedError(f"{device} has no sparse tensors")
        _, _, _, indices, values = node.args[:5]
        return Parts((_inlined(node, mode, lambda i, v: (i.clone(), v.clone()), indices, values),), gaps=False)
    if node.target is _BAG and device == "cpu" and _argument(node, "sparse"):
        gaps = (_argument(node, "padding_idx") or -1) >= 0
        return Parts((_inlined(node, mode, _bag_gradient, *node.args, **node.kwargs),), gaps)
    if not sparse:
        return None
    if node.target is aten.add.Tensor:
        return _sum(node, mode, found)
    if node.target is aten.mul.Tensor and len(sparse) == 1:
        left, right = _operands(node)
        of, factor = (found[left], right) if left in found else (found[right], left)
        return _scaled(node, mode, of, factor)
    if node.target in _ON_VALUES and len(node.all_input_nodes) == 1:
        (of,) = sparse
        function = partial(node.target, **node.kwargs)
        return replace(of, terms=tuple((i, _inlined(node, mode, function, v, *node.args[1:])) for i, v in of.terms))
    raise NotImplementedError("it takes a sparse tensor, and XLA has dense ones only")


def _sum(node: Node, mode: FakeTensorMode, found: dict[Node, Parts]) -> Parts | None:
    """Add two tensors of which one is sparse, or both are; a sum with a dense tensor is dense and replaces the node."""
    left, right = _operands(node)
    alpha: Any = node.kwargs.get("alpha", 1)
    if left in found and right in found:
        scaled = found[right] if alpha == 1 else _scaled(node, mode, found[right], alpha)
        return Parts(found[left].terms + scaled.terms, found[left].gaps or scaled.gaps)
    of, dense, scales = (found[left], right, (alpha, 1)) if left in found else (found[right], left, (1, alpha))

    def added(dense: Tensor, *parts: Tensor) -> Tensor:
        total = dense * scales[0]
        for indices, values in zip(parts[::2], parts[1::2], strict=True):
            counted = (indices >= 0).all(0).reshape(-1, *[1] * (values.ndim - 1))
            values = torch.where(counted, values, 0) * scales[1]
            total = aten.index_put(total, list(indices.clamp(min=0)), values, accumulate=True)
        return total

    result = _inlined(node, mode, added, dense, *(part for term in of.terms for part in term))
    node.replace_all_uses_with(result)
    node.graph.erase_node(node)
    return None


def _scaled(node: Node, mode: FakeTensorMode, of: Parts, factor: Any) -> Parts:
    """Multiply a sparse tensor by a number, or by the elements of a dense tensor at its indices."""
    shape = node.meta["val"].shape

    def scaled(indices: Tensor, values: Tensor, factor: Any) -> Tensor:
        if isinstance(factor, Tensor):
            factor = aten.index(factor.expand(shape), list(indices.clamp(min=0)))
        return values * factor

    return replace(of, terms=tuple((i, _inlined(node, mode, scaled, i, v, factor)) for i, v in of.terms))


def _bag_gradient(
    grad: Tensor,
    indices: Tensor,
    offsets: Tensor,
    offset2bag: Tensor,
    bag_size: Tensor,
    maximum_indices: Tensor,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Tensor | None,
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor]:
    """Compute indices and values of ATen's `_embedding_bag_sparse_backward`; the index -1 marks rows without effect."""
    bags = grad.shape[0]
    places = torch.arange(indices.shape[0], dtype=offsets.dtype, device=indices.device)
    bag = (torch.searchsorted(offsets[:bags], places, right=True) - 1).clamp(min=0)
    if mode == _MEAN:
        grad = grad / bag_size[:bags, None].clamp(min=1).to(grad.dtype)
    values = grad.index_select(0, bag)
    if per_sample_weights is not None:
        values = values * per_sample_weights[:, None]
    if padding_idx >= 0:
        indices = torch.where(indices == padding_idx, -1, indices)
    return indices.to(torch.int64)[None], values


def _operands(node: Node) -> tuple[Any, Any]:
    left, right = node.args
    return left, right


def _argument(node: Node, name: str) -> Any:
    """Return the argument that a call passes for a parameter of its operator, None where it leaves it out."""
    names = [argument.name for argument in node.target._schema.arguments]  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return dict(zip(names, node.args, strict=False)).get(name, node.kwargs.get(name))


def _inlined(node: Node, mode: FakeTensorMode, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Insert the operators of a function of nodes and numbers before `node`; return its results as nodes."""
    nodes = [argument for argument in args if isinstance(argument, Node)]

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        return function(*(next(given) if isinstance(argument, Node) else argument for argument in args), **kwargs)

    body = functional_graph(call, [argument.meta["val"] for argument in nodes], mode)
    with node.graph.inserting_before(node):
        return inline(node.graph, body, nodes, node.meta)
