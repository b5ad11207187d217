"""Results of a TPU's program that leave it as the matrices that they were computed as, and are viewed as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .program import Computed, Number, Output, Sparse, TensorSpec, Update, View

aten = torch.ops.aten

_PRODUCTS = {aten.mm.default, aten.addmm.default}
_VIEWS = {aten.view.default, aten._unsafe_view.default}
# A row of a TPU's vector registers.
_LANES = 128


def return_matrices(
    graph_module: GraphModule,
    results: Sequence[TensorSpec],
    outputs: Sequence[Output],
    updates: Sequence[Update],
    handed_out: int | None,
) -> tuple[list[TensorSpec], list[Output]]:
    """Return products of flattened tensors as matrices, of which outputs are views, where a tensor would be copied.

    results, outputs, updates: of the program. handed_out: how many of the first outputs the caller gets, None for all;
    the rest is what other programs of ours read, as it is. The graph is changed in place; the new results and outputs
    are returned.

    Logits [8, 512, 50257] are the case: no layout of TPUs fits 50257 in rows of 128 without padding, so XLA expects
    that tensor with 512 innermost and 8 second, in which no product makes it, and the copy takes longer than the
    product. Of the matrix [4096, 50257] it expects a layout in which the product is made.
    """
    output = graph_module.graph.output_node()
    values: Any = output.args[0]
    nodes, specs, chosen = list(values), list(results), list(outputs)
    uses = Counter(update.result for update in updates)
    for given in outputs:
        uses.update(_results_of(given))
    for position, given in enumerate(outputs[:handed_out]):
        if isinstance(given, Computed) and uses[given.result] == 1:
            whole = results[given.result]
            matrix = _matrix(nodes[given.result], whole)
            if matrix is not None:
                nodes[given.result] = matrix
                specs[given.result] = replace(whole, shape=tuple(matrix.meta["val"].shape), order=(0, 1))
                chosen[position] = View(given.result, whole.shape, torch.empty(whole.shape, device="meta").stride(), 0)
    output.args = (tuple(nodes),)
    graph_module.graph.eliminate_dead_code()
    return specs, chosen


def _matrix(node: Node, spec: TensorSpec) -> Node | None:
    """Return the product that a result is only a view of, if the result would have to be copied."""
    if node.target not in _VIEWS or len(node.users) > 1:
        return None
    *rows, columns = spec.shape
    product = node.all_input_nodes[0]
    suits = product.target in _PRODUCTS and len(product.users) == 1 and product.meta["val"].shape[1] == columns
    in_order = spec.order == tuple(range(len(spec.shape)))
    # Of one dimension beside the columns there is one order of rows.
    spreads = sum(extent > 1 for extent in rows) > 1 and columns % _LANES != 0
    return product if suits and in_order and spreads else None


def _results_of(output: Output) -> list[int]:
    """Return the results that an output of the graph is, views or consists of."""
    if isinstance(output, Sparse):
        return [result for term in output.terms for result in term]
    return [output.result] if isinstance(output, Computed | View | Number) else []
