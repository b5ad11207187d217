"""From an FX graph of AOTAutograd to a StableHLO program: the passes in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import fake_mode, graph_module_of, outside_of_function_modes
from .attention_forms import name_masks, share_heads, show_masks
from .bases import storage_offsets
from .batched_products import restore_batches
from .checks import drop_checks
from .computed_tables import compute_rows
from .constants import constant_values, write_constants
from .cross_entropy import pick_classes
from .eager_strides import restore_strides
from .eager_types import cast_as_eager
from .errors import LoweringFailed
from .expand import expand
from .grouped_products import take_transposed
from .integer_products import multiply_integers
from .kernels.call import mark_kernels
from .layouts import expose_arguments, expose_results
from .link import link
from .lookups import repeat_rows
from .loop_draws import carry_keys
from .loop_numbers import carry_numbers
from .matrix_results import return_matrices
from .nested_results import flatten_results
from .operation_names import operation_names
from .products import restore_products
from .program import Program
from .quantised_tensors import take_integers
from .randomness import give_keys, replay_draws
from .row_extremes import reduce_before_scaling
from .sizes import bind_sizes
from .spelled_attention import name_capped_attention
from .subgraphs import nested
from .target import AttentionForm, Target
from .tied_tables import add_into_products
from .tiles import join_tiles
from .tracing import traced
from .triangular_sums import name_sums
from .updates import donate

# Told the name of each intermediate form and a function that writes it out, called only when someone wants it.
Observer = Callable[[str, Callable[[], str]], None]


def prepare(graph_module: GraphModule) -> GraphModule:
    """Copy a graph of AOTAutograd's without checks and generators' states, which programs do not need.

    Ints that loops carry are tensors in it.
    """
    graph = Graph(graph_module)
    copies: dict[Node, Node] = {}
    for node in graph_module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    drop_checks(graph)
    replay_draws(graph)
    prepared = graph_module_of(graph_module, graph)
    carry_numbers(prepared)
    return prepared


@outside_of_function_modes()
def name_attention(graph_module: GraphModule) -> None:
    """Put operators in the place of spelled-out attention with a soft cap in a forward and backward graph, in place.

    Cut in two, neither graph shows enough of it.
    """
    name_capped_attention(graph_module.graph, lambda: constant_values(graph_module))


@outside_of_function_modes()
def trace(
    function: Callable[..., Any],
    specs: Sequence[tuple[Sequence[int], Sequence[int], torch.dtype]],
    device: str = "cpu",
) -> GraphModule:
    """Trace a function of tensors into a functional ATen graph, ready for `lower`; nothing is computed.

    specs: the shape, strides in elements and dtype of each tensor. device: where the function finds them.
    """
    mode = fake_mode()
    with mode:
        fakes = [torch.empty_strided(shape, stride, dtype=dtype, device=device) for shape, stride, dtype in specs]

    def listed(*tensors: torch.Tensor) -> Sequence[Any]:
        results = function(*tensors)
        return results if isinstance(results, list | tuple) else (results,)

    return prepare(traced(listed, fakes, mode))


@outside_of_function_modes()
def lower(
    graph_module: GraphModule,
    sizes: Mapping[sympy.Symbol, int | float],
    *,
    platform: str,
    fast_memory: int | None = None,
    matmul_precision: str = "highest",
    attention: AttentionForm = "auto",
    donates: bool = False,
    handed_out: int | None = 0,
    replicas: int = 0,
    observe: Observer = lambda name, write: None,
) -> Program:
    """Lower a functional ATen graph to a StableHLO program, its symbolic sizes bound to numbers.

    graph_module: what `prepare` gave; nodes carry fake tensors in `meta["val"]`; it is left as it is. platform: `cpu`,
    `cuda` or `tpu`. fast_memory: the bytes that the target has next to its matrix unit, where that is known, for
    kernels that work in blocks. attention: the form of attention, as in Target. donates: let the new values of inputs
    that the graph writes to take the inputs' memory. handed_out: how many of the first outputs the caller gets, None
    for all; other programs of ours read the rest. replicas: the number of ranks that the graph's collectives name by
    their positions, 0 for a graph without any. Raises UnsupportedOp with all operators that have no lowering,
    UnsupportedInput, and LoweringFailed when a stage breaks.
    """
    from . import mlir  # torch-mlir: 0.2 s that a process which finds its programs in a cache does not spend

    mode = fake_mode()
    graph = bind_sizes(graph_module, sizes, mode)
    flatten_results(graph.graph)
    take_integers(graph.graph, mode)
    cast_as_eager(graph, mode)
    restore_strides(graph, mode)
    join_tiles(graph, mode)
    offsets = storage_offsets(graph.graph)
    results, outputs, updates = expose_results(graph, mode)
    values = constant_values(graph)
    for each in nested(graph):
        known = values if each is graph else constant_values(each)
        name_capped_attention(each.graph, lambda known=known: known)
        name_masks(each.graph, known, mode)
        if platform == "tpu" or attention == "fused":
            show_masks(each.graph, known)
        share_heads(each.graph)
        name_sums(each.graph, known)
    repeat_rows(graph.graph, mode)
    compute_rows(graph.graph, mode)
    take_transposed(graph.graph)
    if platform == "tpu":
        pick_classes(graph.graph, mode)
        add_into_products(graph.graph, mode)
    write_constants(graph, values, mode)
    expand(graph, mode)
    if platform == "tpu":
        results, outputs = return_matrices(graph, results, outputs, updates, handed_out)
        restore_batches(graph.graph, mode)
        reduce_before_scaling(graph.graph, mode)
    restore_products(graph, mode)
    multiply_integers(graph, mode)
    carry_keys(graph, mode)
    random_keys = give_keys(graph, mode)
    arguments, constants = expose_arguments(graph, mode)
    if donates:
        updates = donate(updates, arguments, results)
    aliases = {update.argument: update.result for update in updates if update.argument is not None}
    kernels = mark_kernels(graph.graph, Target(platform, fast_memory, matmul_precision, attention))
    observe("rewritten.fx.py", lambda: readable(graph))
    observe("torch.mlir", lambda: mlir.torch_dialect_text(graph, kernels))
    try:
        module = mlir.to_stablehlo(graph, kernels)
        linked = link(
            module, kernels, platform=platform, matmul_precision=matmul_precision, aliases=aliases, replicas=replicas
        )
    except LoweringFailed as failure:
        failure.artifacts = {"rewritten.fx.py": readable(graph), **failure.artifacts}
        raise
    program = Program(
        linked.stablehlo,
        linked.digest,
        tuple(arguments),
        tuple(results),
        tuple(outputs),
        tuple(updates),
        tuple(constants),
        random_keys,
        linked.custom_calls,
        tuple(offsets.items()),
        replicas,
        operation_names(graph_module, sizes),
    )
    observe("stablehlo.mlir", program.text)
    return program


def readable(graph_module: GraphModule) -> str:
    """Print the graph as Python code, with shapes, dtypes and the user's lines as comments."""
    return graph_module.print_readable(print_output=False, include_stride=True, include_device=True)
