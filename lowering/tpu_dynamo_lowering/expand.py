"""Expanding a graph until every operator is one that torch-mlir or a kernel lowers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode, custom_implementation, pytree, torch_decomposition
from .bases import find_bases
from .choice import choose
from .errors import Unsupported, UnsupportedOp, tensors_of
from .inline import inline
from .loop_numbers import as_number
from .nested_results import flatten_results
from .outside import OutsideLowering, with_promised_results
from .randomness import draw_key
from .refusals import HINT, refusal
from .subgraphs import subgraph, subgraphs
from .table import How, Lowering, foreign_mismatch
from .tracing import traced
from .wrapped_numbers import wrap_number
from .writing_operators.calls import base_offsets

# Told of each call that is looked up in the tables, and of the choice.
Watcher = Callable[[Node, Lowering | How | None], None]

_watchers: list[Watcher] = []


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of every call that is lowered meanwhile, in any thread, inside decompositions too."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def expand(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Replace, in place, every operator that has a rewrite or decomposition by what it consists of.

    Equal calls (operator, shapes, dtypes, constants) are traced once, on fake tensors of `mode`. Raises
    UnsupportedOp with every operator that has no way to StableHLO.
    """
    expansion = _Expansion(mode)
    problems = expansion.expand(graph_module.graph)
    if problems:
        raise UnsupportedOp(dict.fromkeys(problems))


@dataclass
class _Expansion:
    """The state while one graph is expanded: the bodies of the calls met so far."""

    mode: FakeTensorMode
    bodies: dict[str, tuple[GraphModule, list[Unsupported]]] = field(default_factory=dict)

    def expand(self, graph: Graph) -> list[Unsupported]:
        problems: list[Unsupported] = []
        for node in list(graph.nodes):
            wrap_number(node, self.mode)
        baseless = find_bases(graph, self.mode)
        for node in list(graph.nodes):
            if node.op != "call_function" or node.target in (operator.getitem, draw_key, as_number):
                continue
            for inner in subgraphs(node):
                problems += self.expand(inner.graph)
            if node in baseless:
                problems.append(Unsupported.at(node, baseless[node], HINT))
                continue
            lowering = choose(node)
            for watch in _watchers:
                watch(node, lowering)
            if isinstance(lowering, Lowering) and (why := foreign_mismatch(lowering, node.target)):
                problems.append(Unsupported.at(node, why, HINT))
                continue
            if lowering is How.TORCH_MLIR or (isinstance(lowering, Lowering) and lowering.how is How.KERNEL):
                continue
            if isinstance(lowering, Lowering):
                function = lowering.function
                if isinstance(lowering, OutsideLowering):
                    function = with_promised_results(function, tensors_of(node))
            else:
                function = definition(node.target)
            if function is None:
                problems.append(refusal(node))
                continue
            try:
                body, inner_problems = self.body(function, node)
            except NotImplementedError as error:
                problems.append(Unsupported.at(node, str(error), HINT))
                continue
            problems += [_within(node, problem) for problem in inner_problems]
            _inline(graph, node, body)
        graph.eliminate_dead_code()
        return problems

    def body(self, function: Callable[..., Any], node: Node) -> tuple[GraphModule, list[Unsupported]]:
        key = call_key(node)
        if key not in self.bodies:
            body = _trace(function, node, self.mode)
            flatten_results(body.graph)
            self.bodies[key] = body, self.expand(body.graph)
        return self.bodies[key]


def definition(target: object) -> Callable[..., Any] | None:
    """Return the function of tensors by which torch itself defines an operator, or None if there is none."""
    return torch_decomposition(target) or custom_implementation(target)


def _within(node: Node, problem: Unsupported) -> Unsupported:
    return Unsupported.at(node, f"it consists of {problem.operation}: {problem.why}", problem.hint)


def call_key(node: Node) -> str:
    """Return a key that is equal for calls of one operator with equal constants, shapes, dtypes and strides."""
    leaves, structure = pytree.tree_flatten((node.args, node.kwargs))
    parts = []
    for leaf in leaves:
        if isinstance(leaf, Node) and (inner := subgraph(leaf)) is not None:
            parts.append(inner.print_readable(print_output=False, include_stride=True))
        elif isinstance(leaf, Node):
            parts += [f"{v.dtype}{tuple(v.shape)}{v.stride()}" for v in tensors_of(leaf)]
        else:
            parts.append(f"{type(leaf).__name__}:{leaf!r}")
    return f"{node.target}{[*filter(None, base_offsets(node))] or ''}|{structure}|{'|'.join(parts)}"


def _trace(function: Callable[..., Any], node: Node, mode: FakeTensorMode) -> GraphModule:
    leaves, structure = pytree.tree_flatten((node.args, node.kwargs))
    tensors = [leaf.meta["val"] for leaf in leaves if isinstance(leaf, Node)]

    def call(*inputs: Any) -> Any:
        given = iter(inputs)
        # Plain lists: FX's own refuse to change, and torch's decompositions change theirs.
        args, kwargs = pytree.tree_unflatten([next(given) if isinstance(x, Node) else x for x in leaves], structure)
        args, kwargs = [list(a) if isinstance(a, list) else a for a in args], dict(kwargs)
        result = function(*args, **kwargs)
        # Side by side, as `flatten_results` numbers the results of the node.
        return tuple(pytree.tree_leaves(result)) if isinstance(result, list | tuple) else result

    body = traced(call, tensors, mode)
    flatten_results(body.graph)
    return body


def _inline(graph: Graph, node: Node, body: GraphModule) -> None:
    leaves, _ = pytree.tree_flatten((node.args, node.kwargs))
    with graph.inserting_before(node):
        result = inline(graph, body, [leaf for leaf in leaves if isinstance(leaf, Node)], node.meta)
    if isinstance(result, Node):
        node.replace_all_uses_with(result)
    else:
        for user in list(node.users):
            user.replace_all_uses_with(result[user.args[1]])
            graph.erase_node(user)
    graph.erase_node(node)
