"""Products of tensors that autograd flattened to matrices, made of the tensors as they are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode
from .inserted_calls import insert_call
from .subgraphs import subgraphs

aten = torch.ops.aten

_VIEWS = {aten.view.default, aten._unsafe_view.default}


def restore_products(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Multiply tensors, in place, where the graph multiplies matrices that are views of them.

    A linear layer flattens its input to a matrix and views the product as what it returns, its gradients alike. XLA
    fuses what comes before and after into a product, but not through such views. Sums over the rows of a flattened
    tensor, as for the gradient of a bias, are sums over its dimensions. Values are the same.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        for inner in subgraphs(node):
            restore_products(inner, mode)
        if node.target in (aten.mm.default, aten.addmm.default) and _is_plain(node):
            _keep_dimensions(graph, node, mode)
            _contract_dimensions(graph, node, mode)
        elif node.target is aten.sum.dim_IntList:
            _sum_dimensions(graph, node, mode)
    graph.eliminate_dead_code()


def _is_plain(product: Node) -> bool:
    """Tell whether a product has no factors and, at most, a bias of one dimension."""
    added: Any = product.args[:-2]
    return all(factor == 1 for factor in product.kwargs.values()) and all(len(_shape(each)) == 1 for each in added)


def _keep_dimensions(graph: Graph, product: Node, mode: FakeTensorMode) -> None:
    """Replace a product whose left matrix is a flattened tensor, and which is viewed with that tensor's dimensions."""
    arguments: Any = product.args
    *bias, left, right = arguments
    tensor = _flattened(left)
    if tensor is None:
        return
    rows = _shape(tensor)[:-1]
    views = [user for user in product.users if user.target in _VIEWS and _shape(user)[: len(rows)] == rows]
    if not views:
        return
    with graph.inserting_before(product):
        weight = _transposed(graph, product, right, mode)
        result = insert_call(graph, product, mode, aten.linear.default, tensor, weight, *bias)
    for user in (*views, product):
        with graph.inserting_before(user):
            user.replace_all_uses_with(_viewed(graph, user, result, _shape(user), mode))


def _contract_dimensions(graph: Graph, product: Node, mode: FakeTensorMode) -> None:
    """Replace a product that sums over the rows of two matrices, of which one at least is a flattened tensor."""
    arguments: Any = product.args
    *bias, left, right = arguments
    if bias or not _is_transpose(left):
        return
    matrices = (left.args[0], right)
    tensors = [_flattened(matrix) for matrix in matrices]
    rows = next((_shape(tensor)[:-1] for tensor in tensors if tensor is not None), None)
    if rows is None:
        return
    dims = list(range(len(rows)))
    with graph.inserting_before(product):
        operands = [
            _viewed(graph, product, tensor or matrix, (*rows, _shape(matrix)[1]), mode)
            for tensor, matrix in zip(tensors, matrices, strict=True)
        ]
        result = insert_call(graph, product, mode, aten.tensordot.default, *operands, dims, dims)
    product.replace_all_uses_with(result)


def _sum_dimensions(graph: Graph, total: Node, mode: FakeTensorMode) -> None:
    """Replace a sum over the rows of a matrix that is a flattened tensor."""
    arguments: Any = total.args
    matrix, dims, *_ = arguments
    tensor = _flattened(matrix)
    if tensor is None or list(dims) not in ([0], [-2]) or total.kwargs:
        return
    with graph.inserting_before(total):
        rows = list(range(len(_shape(tensor)) - 1))
        result = insert_call(graph, total, mode, aten.sum.dim_IntList, tensor, rows)
        result = _viewed(graph, total, result, _shape(total), mode)
    total.replace_all_uses_with(result)


def _flattened(matrix: Any) -> Node | None:
    """Return the tensor [..., columns] of more than two dimensions that a matrix [rows, columns] is a view of."""
    if matrix.target not in _VIEWS or len(_shape(matrix)) != 2:
        return None
    tensor = matrix.args[0]
    *rows, columns = _shape(tensor) or (0,)
    return tensor if len(rows) > 1 and _shape(matrix) == (math.prod(rows), columns) else None


def _is_transpose(node: Any) -> bool:
    """Tell whether a node swaps the dimensions of a matrix."""
    if node.target is aten.t.default:
        return len(_shape(node)) == 2
    if node.target is aten.permute.default:
        return [dim % 2 for dim in node.args[1]] == [1, 0] and len(_shape(node)) == 2
    return node.target is aten.transpose.int and len(_shape(node)) == 2 and {d % 2 for d in node.args[1:]} == {0, 1}


def _transposed(graph: Graph, origin: Node, matrix: Any, mode: FakeTensorMode) -> Node:
    """Return the transpose of a matrix; of a transpose the matrix itself."""
    return matrix.args[0] if _is_transpose(matrix) else insert_call(graph, origin, mode, aten.t.default, matrix)


def _viewed(graph: Graph, origin: Node, node: Node, shape: tuple[int, ...], mode: FakeTensorMode) -> Node:
    return node if _shape(node) == shape else insert_call(graph, origin, mode, aten.view.default, node, list(shape))


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
