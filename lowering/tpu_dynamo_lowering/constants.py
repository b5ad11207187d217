"""Values that depend on no input: computed while a graph is lowered, and written into it where the program gains."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensor, FakeTensorMode, OpOverload, computing, is_view, pytree

aten = torch.ops.aten

# Bytes of a value that is computed here, and of all that a program gets as constants.
_COMPUTED = 64 * 2**20
_WRITTEN = 4 * 2**20

# Copies, which no tag of torch's tells from operators that take a pass of their own.
_COPIES = {
    aten._to_copy.default,
    aten.clone.default,
    aten.lift_fresh_copy.default,
    aten.cat.default,
    aten.stack.default,
}


def constant_values(graph_module: GraphModule) -> dict[Node, torch.Tensor]:
    """Compute, in eager PyTorch on the CPU, the tensors of a graph that depend on none of its inputs.

    Left out are what operators draw or write, more than 64 MiB, and what has another shape or dtype here than in the
    graph.
    """
    values: dict[Node, torch.Tensor] = {}
    with computing():
        for node in graph_module.graph.nodes:
            if node.op == "get_attr":
                value = getattr(graph_module, node.target)
                if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor):
                    values[node] = value.detach().cpu()
            elif _is_computed(node) and all(each in values for each in node.all_input_nodes):
                value = _compute(node, values)
                if value is not None:
                    values[node] = value
    return values


def _is_computed(node: Node) -> bool:
    """Tell whether a node's operator gives one tensor, small enough, of its arguments alone."""
    value = node.meta.get("val")
    if not isinstance(node.target, OpOverload) or not isinstance(value, torch.Tensor):
        return False
    if torch.Tag.nondeterministic_seeded in node.target.tags or node.target._schema.is_mutable:
        return False
    return node.target.namespace in ("aten", "prims") and value.numel() * value.dtype.itemsize <= _COMPUTED


def _compute(node: Node, values: dict[Node, torch.Tensor]) -> torch.Tensor | None:
    given: Any = pytree.tree_map(
        lambda each: values[each] if isinstance(each, Node) else each, (node.args, node.kwargs)
    )
    args, kwargs = given
    kwargs = {
        name: torch.device("cpu") if name == "device" and each is not None else each for name, each in kwargs.items()
    }
    try:
        found = node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
    except (NotImplementedError, RuntimeError):  # not an operator of the CPU's, or not for these dtypes
        return None
    wanted = node.meta["val"]
    return found if (found.shape, found.dtype) == (wanted.shape, wanted.dtype) else None


def write_constants(graph_module: GraphModule, values: dict[Node, torch.Tensor], mode: FakeTensorMode) -> None:
    """Replace, in place, what the program would compute from nothing by its value, at most 4 MiB in all.

    That are values whose making takes more than elementwise operators and views, which XLA fuses into their users.
    """
    graph, left = graph_module.graph, _WRITTEN
    dear: dict[Node, None] = {}  # in their order, which decides what fits
    for node in values:
        if node.op != "get_attr" and (not _is_fused(node) or any(each in dear for each in node.all_input_nodes)):
            dear[node] = None
    for node in dear:
        if all(user in values or user.op == "output" for user in node.users):
            continue
        small = _without_repeats(values[node])
        if small.numel() * small.dtype.itemsize > left:
            continue
        left -= small.numel() * small.dtype.itemsize
        _write(graph_module, node, small, mode)
    graph.eliminate_dead_code()


def _is_fused(node: Node) -> bool:
    """Tell whether XLA computes an operator where its result is used: elementwise, a view, or made of nothing."""
    assert isinstance(node.target, OpOverload)
    if not node.all_input_nodes or node.target in _COPIES:
        return True
    return torch.Tag.pointwise in node.target.tags or is_view(node)


def _without_repeats(value: torch.Tensor) -> torch.Tensor:
    """Return one of the equal slices along each dimension in which all are equal to the bit."""
    for dim in range(value.ndim):
        first = value.narrow(dim, 0, min(1, value.shape[dim]))
        if value.shape[dim] > 1 and _same_bits(first.expand_as(value), value):
            value = first
    # A copy, since contiguous() leaves strides of dimensions of one element, at which torch-mlir's importer stumbles.
    return value.clone(memory_format=torch.contiguous_format)


def _same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.equal(*(_bytes(each) for each in (left, right)))


def _bytes(value: torch.Tensor) -> torch.Tensor:
    return value.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def _write(graph_module: GraphModule, node: Node, small: torch.Tensor, mode: FakeTensorMode) -> None:
    graph, wanted = graph_module.graph, node.meta["val"]
    name = f"_constant{len(graph_module._buffers)}"
    graph_module.register_buffer(name, small)
    with graph.inserting_before(node):
        constant = graph.get_attr(name)
        with mode:
            constant.meta["val"] = torch.empty(small.shape, dtype=small.dtype, device=wanted.device)
        if small.shape != wanted.shape:
            small_node, constant = constant, graph.call_function(aten.expand.default, (constant, list(wanted.shape)))
            with mode:
                constant.meta["val"] = small_node.meta["val"].expand(wanted.shape)
        constant.meta.update({key: each for key, each in node.meta.items() if key == "stack_trace"})
    node.replace_all_uses_with(constant)
