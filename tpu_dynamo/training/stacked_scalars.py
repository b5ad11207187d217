"""Numbers of many parameters, computed together: equal operators on scalars become one on a vector."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from torch.fx import Graph, Node, map_arg
from torch.fx.node import Argument

from .._torch_compat import OpOverload

aten = torch.ops.aten

# Operators that cost as little for each number alone as in a vector.
_CHEAP = (aten._to_copy.default, aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default)


def stack_scalars(graph: Graph) -> None:
    """Compute equal chains of operators on scalars that are inputs of the graph as one chain on a vector, in place.

    Such are the bias corrections of Adam, one for each parameter: TPUs compute float64 in parts, 800 instructions for
    a power, over which libtpu takes long. Chains without a costly operator stay.
    """
    forms, members = _forms_of(graph)
    worthy = _worthy(members, forms)
    stacked = {node: (form, row) for form in worthy for row, node in enumerate(members[form])}
    if not stacked:
        return
    first = next(node for node in graph.nodes if node.op not in ("placeholder", "get_attr") and node not in forms)
    vectors = _Vectors(first, members, stacked)
    for form in sorted(members):
        vectors.enter(form)
    for node in stacked:
        vectors.replace(node)
    for node in reversed(stacked):
        graph.erase_node(node)


def _forms_of(graph: Graph) -> tuple[dict[Node, int], dict[int, list[Node]]]:
    """Return numbers of the scalars that depend on inputs alone, by how they are computed, and the nodes by number.

    Equal nodes are made one. An operand's number is less than that of what is computed from it.
    """
    numbers: dict[Hashable, int] = defaultdict(lambda: len(numbers))
    forms: dict[Node, int] = {}
    seen: dict[Hashable, Node] = {}
    members: dict[int, list[Node]] = defaultdict(list)
    for node in list(graph.nodes):
        if not _is_scalar(node):
            continue
        if node.op == "placeholder":
            forms[node] = numbers[node.meta["val"].dtype]
        elif _is_elementwise(node) and node.all_input_nodes and forms.keys() >= set(node.all_input_nodes):
            form = numbers[node.target, _hashable(map_arg((node.args, node.kwargs), forms.__getitem__))]
            first = seen.setdefault((form, *_operands(node)), node)
            if first is not node:
                node.replace_all_uses_with(first)
                graph.erase_node(node)
                continue
            forms[node] = form
            members[form].append(node)
    return forms, members


def _worthy(members: dict[int, list[Node]], forms: dict[Node, int]) -> list[int]:
    """Return, in their order, the forms that become vectors: costly ones, what they need, and what comes of them."""
    several = [form for form, nodes in members.items() if len(nodes) > 1]
    worthy = {form for form in several if members[form][0].target not in _CHEAP}
    for form in reversed(several):
        if form in worthy:
            worthy.update(forms[operand] for operand in members[form][0].all_input_nodes)
    for form in several:
        if any(forms[operand] in worthy for operand in members[form][0].all_input_nodes):
            worthy.add(form)
    return [form for form in several if form in worthy]


class _Vectors:
    """The vectors that take the place of scalars.

    stacked: the form of each scalar, and its row in that one's vector. What else depends on inputs alone goes before
    `first`, where the vectors are.
    """

    def __init__(self, first: Node, members: dict[int, list[Node]], stacked: dict[Node, tuple[int, int]]):
        self._first = first
        self._members = members
        self._stacked = stacked
        self._vectors: dict[int, Node] = {}
        self._rows: dict[Node, Node] = {}

    def enter(self, form: int) -> None:
        """Make the vector of a form, or let its scalars read elements of vectors where it stays."""
        nodes = self._members[form]
        if nodes[0] in self._stacked:
            operands = [self._operand(rows) for rows in zip(*map(_operands, nodes), strict=True)]
            self._vectors[form] = self._call(nodes[0], len(nodes), operands)
            return
        for node in nodes:
            for operand in node.all_input_nodes:
                node.replace_input_with(operand, self._row(operand))
            self._first.prepend(node)

    def replace(self, node: Node) -> None:
        """Give the element of a vector to those who read a scalar and stay."""
        for user in [user for user in node.users if user not in self._stacked]:
            user.replace_input_with(node, self._row(node))

    def _operand(self, rows: Sequence[Node]) -> Node:
        """Return the vector of scalars that are the same operand of all members; of one element where all are one."""
        if len(set(rows)) == 1:
            return self._new(aten.unsqueeze.default, (self._row(rows[0]), 0), rows[0], (1,))
        if rows[0] in self._stacked and list(rows) == self._members[self._stacked[rows[0]][0]]:
            return self._vectors[self._stacked[rows[0]][0]]
        return self._new(aten.stack.default, ([self._row(row) for row in rows],), rows[0], (len(rows),))

    def _row(self, node: Node) -> Node:
        """Return a scalar: an element of its vector, or the node itself where it stays."""
        if node not in self._stacked:
            return node
        if node not in self._rows:
            form, row = self._stacked[node]
            self._rows[node] = self._new(aten.select.int, (self._vectors[form], 0, row), node, ())
        return self._rows[node]

    def _call(self, node: Node, length: int, operands: Sequence[Node]) -> Node:
        left = iter(operands)
        args, kwargs = map_arg((node.args, node.kwargs), lambda _: next(left))
        made = self._new(node.target, args, node, (length,))
        made.kwargs = kwargs
        return made

    def _new(self, target: object, args: tuple[Argument, ...], like: Node, shape: tuple[int, ...]) -> Node:
        with self._first.graph.inserting_before(self._first):
            made = self._first.graph.call_function(target, args)  # pyright: ignore[reportArgumentType]
        made.meta = {**like.meta, "val": like.meta["val"].new_empty(shape)}
        return made


def _operands(node: Node) -> list[Node]:
    """Return a node's operands, one for each place that has one."""
    found: list[Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def _is_scalar(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim == 0


def _is_elementwise(node: Node) -> bool:
    target = node.target
    if not isinstance(target, OpOverload) or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    elementwise = torch.Tag.pointwise in target.tags or target is aten._to_copy.default
    return elementwise and not target._schema.is_mutable


def _hashable(value: object) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((name, _hashable(each)) for name, each in value.items())
    return type(value), value  # 1 and 1.0 are not the same factor
