"""Collectives of a graph made independent of the rank that traced it: groups as positions, coordinates as tables."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from tpu_dynamo_lowering import UnsupportedInput, fold_into_draw
from tpu_dynamo_runtime import Span

from ..device.generator import fold_of
from ._torch_compat import SHARDS, DeviceMesh, OpOverload, ranks_of, real_value, unset_fake_temporarily
from .groups import Group, as_text, siblings, spanned

aten = torch.ops.aten

_LIBRARIES = ("_c10d_functional", "_c10d_functional_autograd", "_dtensor")
_GROUP_OF_MESH = "_dtensor::mesh_get_process_group"
_COORDINATE = "device_mesh::_runtime_compute_coordinate_on_dim"
_MESHES = ("device_mesh::_get_submesh", "device_mesh::_get_flattened_submesh")
_ARITHMETIC = {
    operator.add: aten.add.Tensor, operator.sub: aten.sub.Tensor, operator.mul: aten.mul.Tensor,
    operator.floordiv: aten.floor_divide.default, operator.mod: aten.remainder.Tensor,
}  # fmt: skip


def span_collectives(graph_module: GraphModule) -> Span:
    """Let a graph's collectives name positions in what it spans, in place; return the ranks that it spans.

    The graph is afterwards the same on every rank, if it is so besides: process groups, whether given by name, by mesh
    or by themselves, become text of positions, and a rank's coordinates in a mesh become tables that the program reads.
    Empty for a graph without collectives. Raises UnsupportedInput and IrregularGroups.
    """
    nodes = list(graph_module.graph.nodes)
    collectives = {node: place for node in nodes if (place := _group_argument(node)) is not None}
    coordinates = [node for node in nodes if _name(node) == _COORDINATE]
    draws = {node: shards for node in nodes if len(set((shards := _shards(node))[1])) > 1}
    if not (collectives or coordinates or draws):
        return ()
    import torch.distributed as dist

    own, size = dist.get_rank(), dist.get_world_size()
    known = _divisions(graph_module)
    groups: dict[Node, Group] = {}
    for node, place in collectives.items():
        given = node.args[place]
        groups[node] = ranks_of(_group_object(graph_module, given) if isinstance(given, Node) else given)
    groups |= {node: ranks for node, (ranks, _) in draws.items()}
    if len(set(groups.values())) > 1:
        divisions = {group: siblings(group, size, known) for group in set(groups.values())}
    else:  # other ranks' groups are none of this program's business
        divisions = {group: [group] for group in groups.values()}
    span = spanned(divisions.values(), own)
    for node, place in collectives.items():
        text = as_text(divisions[groups[node]], span)
        node.args = (*node.args[:place], text, *node.args[place + 1 :])
    for node in coordinates:
        _write_table(graph_module, node, span)
    for node, (ranks, shards) in draws.items():
        table = {rank: shard for group in divisions[ranks] for rank, shard in zip(group, shards, strict=True)}
        _draw_shards(graph_module, node, [fold_of(table[rank]) for rank in span])
    _erase_unused(graph_module)
    return span


def _shards(node: Node) -> tuple[Group, Sequence[int]]:
    """Return the ranks of the DTensor that a node draws a part of, and the number of the shard that each has."""
    return (node.meta.get("custom") or {}).get(SHARDS, ((), ()))


def _draw_shards(graph_module: GraphModule, node: Node, folds: list[int]) -> None:
    """Let a node draw the numbers of the rank's shard, in place; as `drawing_shard` does it in eager."""
    graph, mode = graph_module.graph, _fake_mode(graph_module)

    def fold(key: Node) -> Node:
        own = graph.call_function(torch.ops.tpu_dynamo.value_of_rank.default, (folds,))
        folded = graph.call_function(aten.bitwise_xor.Tensor, (key, own))
        with mode:
            own.meta["val"] = torch.empty((), dtype=torch.int64, device="cpu")
        folded.meta["val"] = key.meta["val"]
        return folded

    fold_into_draw(node, fold)


def _name(node: Node) -> str:
    return node.target._schema.name if isinstance(node.target, OpOverload) else ""


def _group_argument(node: Node) -> int | None:
    """Return the position of a collective's process group among its arguments; None for what is no collective."""
    if not isinstance(node.target, OpOverload) or node.target.namespace not in _LIBRARIES:
        return None
    names = [argument.name for argument in node.target._schema.arguments]
    return names.index("group_name") if "group_name" in names else None


def _group_object(graph_module: GraphModule, node: Node) -> Any:
    if _name(node) == _GROUP_OF_MESH:
        mesh, dimension = node.args
        assert isinstance(dimension, int)
        return _mesh(graph_module, mesh).get_group(dimension)
    return real_value(graph_module, node)


def _mesh(graph_module: GraphModule, node: Any) -> DeviceMesh:
    if _name(node) in _MESHES:
        with unset_fake_temporarily():
            return node.target(_mesh(graph_module, node.args[0]), *node.args[1:])
    return real_value(graph_module, node)


def _divisions(graph_module: GraphModule) -> list[Sequence[Group]]:
    """Return the groups along each dimension of the meshes in a graph, and of the meshes that those are parts of.

    Those of most ranks come first: of a dimension's groups a part of the mesh has this rank's alone.
    """
    meshes: dict[int, DeviceMesh] = {}
    for node in graph_module.graph.nodes:
        value = real_value(graph_module, node) if node.op in ("placeholder", "get_attr") else None
        if isinstance(value, DeviceMesh):
            for mesh in (value, value._get_root_mesh()):
                meshes.setdefault(id(mesh), mesh)
    found: list[Sequence[Group]] = []
    with unset_fake_temporarily():
        for mesh in meshes.values():
            ranks = mesh.mesh
            for dimension in range(ranks.ndim):
                rows = ranks.movedim(dimension, -1).reshape(-1, ranks.shape[dimension])
                if rows.numel() == ranks.numel():
                    found.append([tuple(row) for row in rows.tolist()])
    return sorted(found, key=lambda division: -sum(map(len, division)))


def _write_table(graph_module: GraphModule, node: Node, span: Span) -> None:
    """Replace a rank's coordinate by a tensor that the program reads from a table, and numbers made of it too."""
    layout, dimension = node.args
    assert isinstance(layout, Node) and isinstance(dimension, int)
    with unset_fake_temporarily():
        whole = _computed(graph_module, layout)
        table = {int(rank): int(place[dimension + 1]) for place, rank in _entries(whole)}
    graph, mode = graph_module.graph, _fake_mode(graph_module)
    with graph.inserting_before(node):
        tensor = graph.call_function(torch.ops.tpu_dynamo.value_of_rank.default, ([table[rank] for rank in span],))
    with mode:
        tensor.meta["val"] = torch.empty((), dtype=torch.int64, device="cpu")
    tensor.meta.update({key: value for key, value in node.meta.items() if key == "stack_trace"})
    tensors = {node: tensor}
    for user in list(graph.nodes):
        if not any(each in tensors for each in user.all_input_nodes) or user in tensors.values():
            continue
        if user.target in _ARITHMETIC:
            with graph.inserting_before(user):
                made = _arithmetic(user, tensors)
            made.meta["val"] = tensor.meta["val"]
            tensors[user] = made
        elif user.target is aten.slice.Tensor:
            _slice_at(user, tensors)
        elif isinstance(user.target, OpOverload) and user.target._overloadname == "Scalar":
            user.target = user.target.overloadpacket.Tensor
            user.args = torch.fx.map_arg(user.args, lambda each: tensors.get(each, each))
        elif isinstance(user.target, OpOverload) and user.target._overloadname == "Tensor":
            user.args = torch.fx.map_arg(user.args, lambda each: tensors.get(each, each))
        else:
            raise UnsupportedInput(
                f"the rank's coordinate in a mesh, as {user.target} takes it,",
                "has no number that is the same on all ranks",
                "compute what depends on it outside of the compiled function",
            )
    for each in reversed(tensors):
        graph.erase_node(each)


def _slice_at(user: Node, tensors: dict[Node, Node]) -> None:
    """Let a slice that begins where the rank's share does read it from there, in place. Raises UnsupportedInput."""
    whole, dimension, start = user.args[:3]
    assert isinstance(whole, Node) and isinstance(dimension, int)
    length = user.meta["val"].shape[dimension]
    if not (isinstance(length, int) and isinstance(start, Node) and start in tensors):
        raise UnsupportedInput(
            f"a dimension of {whole.meta['val'].shape[dimension]}, of which ranks have shares of several sizes,",
            "has no program that is the same on all ranks",
            "sizes that are multiples of the ranks that share them",
        )
    user.target = torch.ops.tpu_dynamo.slice_at.default
    user.args = (whole, dimension, tensors[start], length)


def _arithmetic(user: Node, tensors: dict[Node, Node]) -> Node:
    """Return the operation of tensors in the place of one of numbers; a number on its left comes from a tensor too."""
    left, right = (tensors.get(each, each) if isinstance(each, Node) else each for each in user.args)
    call = user.graph.call_function
    if isinstance(left, Node):
        return call(_ARITHMETIC[user.target], (left, right))
    if user.target in (operator.add, operator.mul):
        return call(_ARITHMETIC[user.target], (right, left))
    assert isinstance(right, Node)
    zero = call(aten.mul.Tensor, (right, 0))
    zero.meta["val"] = right.meta["val"]
    start = call(aten.add.Tensor, (zero, left))
    start.meta["val"] = right.meta["val"]
    return call(_ARITHMETIC[user.target], (start, right))


def _entries(whole: torch.Tensor) -> list[tuple[tuple[int, ...], int]]:
    places = torch.cartesian_prod(*map(torch.arange, whole.shape)).reshape(whole.numel(), whole.ndim)
    return list(zip(map(tuple, places.tolist()), whole.reshape(-1).tolist(), strict=True))


def _computed(graph_module: GraphModule, node: Node) -> torch.Tensor:
    """Compute a node that depends on constants of the graph alone."""
    if node.op != "call_function":
        return real_value(graph_module, node)
    args = torch.fx.map_arg(node.args, lambda each: _computed(graph_module, each))
    return node.target(*args)  # pyright: ignore[reportCallIssue]


def _fake_mode(graph_module: GraphModule) -> Any:
    fakes = (node.meta.get("val") for node in graph_module.graph.nodes)
    return next(fake.fake_mode for fake in fakes if hasattr(fake, "fake_mode"))


def _as_of_input(graph_module: GraphModule, group: Any) -> tuple[Node, int]:
    """Return the mesh among a graph's inputs, and its dimension, along which a process group lies.

    A forward graph saves groups for its backward graph, of meshes that may be constants of the graph: those of its
    sharded inputs have the same groups. Raises UnsupportedInput where none has.
    """
    for node in graph_module.graph.find_nodes(op="placeholder"):
        mesh = real_value(graph_module, node)
        for dimension in range(mesh.ndim if isinstance(mesh, DeviceMesh) else 0):
            if mesh.get_group(dimension).group_name == group.group_name:
                return node, dimension
    raise UnsupportedInput(
        "a process group that the graph returns",
        "is of no mesh that is an input of it",
        "pass a DTensor of the same DeviceMesh to the compiled function",
    )


def _erase_unused(graph_module: GraphModule) -> None:
    """Erase what only gave groups; those that are outputs stay, as of meshes that are inputs."""
    graph = graph_module.graph
    for node in reversed(graph.nodes):
        if _name(node) in (_GROUP_OF_MESH, *_MESHES) and not node.users:
            graph.erase_node(node)
        elif _name(node) == _GROUP_OF_MESH:
            node.args = _as_of_input(graph_module, _group_object(graph_module, node))
    for node in reversed(graph.nodes):
        if node.op == "get_attr" and not node.users and not isinstance(real_value(graph_module, node), torch.Tensor):
            graph.erase_node(node)
