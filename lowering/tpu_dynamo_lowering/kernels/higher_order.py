"""Higher-order operators: branches, loops, scans and maps over graphs, as StableHLO's own control flow."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax
from torch.fx import GraphModule, Node

from .._torch_compat import HigherOrderOperator
from ..randomness import is_keyed
from ..schema_checks import COMPILED_FOR
from ..table import FOREIGN, HIGHER_ORDER, TABLE, Lowering, higher_order_kernel
from ..target import ANY, Target
from .casts import cast

higher_order = torch.ops.higher_order


def run(graph_module: GraphModule, *arrays: Any, compiled_for: Target = ANY) -> tuple[Any, ...]:
    """Run a graph on JAX arrays, each of its operators by its kernel, and return its outputs.

    The graph has been expanded, so every operator in it has a kernel, those with a torch-mlir pattern too.
    compiled_for: for kernels that ask for it. Raises NotImplementedError for an operator that draws random numbers
    without a key.
    """
    given = iter(arrays)
    values: dict[Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            found = getattr(graph_module, node.target)
            values[node] = found if isinstance(found, GraphModule) else jnp.asarray(np.asarray(found.detach().cpu()))
        elif node.op == "output":
            result = torch.fx.map_arg(node.args[0], values.__getitem__)
            return tuple(result) if isinstance(result, list | tuple) else (result,)
        else:
            values[node] = _call(node, values, compiled_for)
    raise AssertionError("a graph without an output")


def _call(node: Node, values: dict[Node, Any], target: Target) -> Any:
    given: Any = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
    args, kwargs = given
    if node.target is operator.getitem:
        return args[0][args[1]]
    function = _lowering(node).function
    if COMPILED_FOR in inspect.signature(function).parameters:
        kwargs = {**kwargs, COMPILED_FOR: target}
    result = function(*args, **kwargs)
    wanted = node.meta["val"]
    if isinstance(wanted, torch.Tensor):
        return cast(jnp.asarray(result), wanted.dtype)
    return tuple(
        cast(jnp.asarray(r), w.dtype) if isinstance(w, torch.Tensor) else r for r, w in zip(result, wanted, strict=True)
    )


def _lowering(node: Node) -> Lowering:
    target: Any = node.target
    if isinstance(target, HigherOrderOperator):
        found = HIGHER_ORDER[target]
    else:
        found = TABLE.get(target) or FOREIGN[target._schema.name]
    if found.draws and not is_keyed(node):
        raise NotImplementedError(f"{target} draws random numbers inside a branch or scan; draw them before it")
    return found


@higher_order_kernel(higher_order.cond)
def cond(
    predicate: Array,
    true_graph: GraphModule,
    false_graph: GraphModule,
    operands: Sequence[Any] = (),
    *,
    compiled_for: Target = ANY,
) -> Any:
    """Run one of two graphs on the same operands: stablehlo.case."""
    return lax.cond(
        jnp.asarray(predicate).reshape(()).astype(jnp.bool_),
        lambda *values: tuple(map(jnp.asarray, run(true_graph, *values, compiled_for=compiled_for))),
        lambda *values: tuple(map(jnp.asarray, run(false_graph, *values, compiled_for=compiled_for))),
        *operands,
    )


@higher_order_kernel(higher_order.while_loop)
def while_loop(
    cond_graph: GraphModule,
    body_graph: GraphModule,
    carried: Sequence[Any],
    additional: Sequence[Any] = (),
    *,
    compiled_for: Target = ANY,
) -> Any:
    """Repeat a graph on its own results while another graph returns True: stablehlo.while."""
    initial = tuple(jnp.asarray(value) for value in carried)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        results = run(body_graph, *state, *additional, compiled_for=compiled_for)
        # A result that was a size is a Python number here.
        return tuple(jnp.asarray(value, like.dtype) for value, like in zip(results, initial, strict=True))

    def goes_on(state: tuple[Array, ...]) -> Array:
        return jnp.asarray(run(cond_graph, *state, *additional, compiled_for=compiled_for)[0]).reshape(())

    return lax.while_loop(goes_on, step, initial)


@higher_order_kernel(higher_order.scan)
def scan(
    combine_graph: GraphModule,
    init: Sequence[Array],
    xs: Sequence[Array],
    additional: Sequence[Any] = (),
    *,
    compiled_for: Target = ANY,
) -> tuple[Any, ...]:
    """Run a graph along the first dimension with a carry; return the last carry and the stacked outputs of the steps.

    combine_graph: takes the carries, one slice of each of `xs` and the additional operands, and returns the new
    carries, then the outputs.
    """
    count = len(init)

    def step(carry: tuple[Array, ...], x: tuple[Array, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        outputs = run(combine_graph, *carry, *x, *additional, compiled_for=compiled_for)
        return outputs[:count], outputs[count:]

    carry, outputs = lax.scan(step, tuple(init), tuple(xs))
    return (*carry, *outputs)


@higher_order_kernel(higher_order.associative_scan)
def associative_scan(
    combine_graph: GraphModule, xs: Sequence[Array], additional: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Combine values along the first dimension by an associative graph, keeping the running results.

    Takes a number of steps that is logarithmic in the dimension. Each takes many pairs at once, for which the
    kernels of one target are not made.
    """

    def combine(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Any, ...]:
        return jax.vmap(lambda a, b: run(combine_graph, *a, *b, *additional))(left, right)

    return tuple(lax.associative_scan(combine, tuple(xs)))


@higher_order_kernel(higher_order.map_impl)
def map_impl(
    graph: GraphModule, xs: Sequence[Array], operands: Sequence[Any] = (), *, compiled_for: Target = ANY
) -> Any:
    """Run a graph on every slice along the first dimension, one after the other, and stack the results."""
    return lax.map(lambda x: run(graph, *x, *operands, compiled_for=compiled_for), tuple(xs))


@higher_order_kernel(higher_order.invoke_subgraph)
def invoke_subgraph(graph: GraphModule, identifier: str, *operands: Any, compiled_for: Target = ANY) -> Any:
    """Run a graph that is called in several places."""
    return run(graph, *operands, compiled_for=compiled_for)
