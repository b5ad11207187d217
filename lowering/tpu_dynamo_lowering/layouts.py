"""How a graph's tensors enter and leave its program: memory order made explicit, constants as arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensorMode
from .errors import UnsupportedInput, user_line
from .program import Argument, Literal, Result, TensorSpec

# A tensor of the graph's own with at most so many elements is written into the program, where XLA folds it.
_LITERAL_ELEMENTS = 256

permute = torch.ops.aten.permute.default


def memory_order(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of a dense tensor from the outermost in memory to the innermost.

    Row-major for a tensor that is not dense (expanded, overlapping or with gaps): it crosses as a contiguous
    copy. Dimensions of extent 1 keep their place, since their strides mean nothing.
    """
    row_major = tuple(range(len(shape)))
    real = [d for d in row_major if shape[d] != 1]
    by_stride = sorted(real, key=lambda d: -stride[d])
    expected = 1
    for d in reversed(by_stride):
        if stride[d] != expected:
            return row_major
        expected *= shape[d]
    given = iter(by_stride)
    return tuple(next(given) if shape[d] != 1 else d for d in row_major)


def spec_of(value: torch.Tensor) -> TensorSpec:
    """The spec of a fake tensor of concrete sizes."""
    shape = tuple(value.shape)
    return TensorSpec(shape, value.dtype, memory_order(shape, value.stride()))


def expose_arguments(graph_module: GraphModule, mode: FakeTensorMode) -> tuple[list[Argument], list[torch.Tensor]]:
    """Turn placeholders into what the program takes, in place; the graph's large constants become placeholders.

    A tensor whose memory is not row-major enters permuted to its memory order, and the graph begins by
    permuting it back: free in XLA, which gives the permuted parameter a layout. Placeholders of sizes go.
    Raises UnsupportedInput for what is neither a tensor nor a number.
    """
    graph = graph_module.graph
    arguments: list[Argument] = []
    constants: list[torch.Tensor] = []
    placeholders = graph.find_nodes(op="placeholder")
    for position, node in enumerate(placeholders):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            spec = spec_of(value)
            _enter_permuted(node, spec, mode)
            arguments.append(Argument(position, spec))
        elif node.users:
            raise UnsupportedInput(f"input {node.name} of the graph is a {type(value).__name__}: {value!r}")
        else:
            graph.erase_node(node)
    position = len(placeholders)
    for node in graph.find_nodes(op="get_attr"):
        tensor = getattr(graph_module, node.target)
        if isinstance(tensor, torch.Tensor) and tensor.numel() > _LITERAL_ELEMENTS:
            arguments.append(Argument(position, spec_of(tensor.contiguous())))
            constants.append(tensor.detach().contiguous())
            position += 1
            _become_placeholder(node, tensor, mode)
    return arguments, constants


def _enter_permuted(node: Node, spec: TensorSpec, mode: FakeTensorMode) -> None:
    if spec.order == tuple(range(len(spec.shape))):
        return
    inverse = [spec.order.index(d) for d in range(len(spec.order))]
    with node.graph.inserting_after(node):
        back = node.graph.call_function(permute, (node, inverse))
    node.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
    with mode:
        back.meta["val"] = node.meta["val"]
        node.meta["val"] = torch.empty(spec.physical_shape, dtype=spec.dtype)


def _become_placeholder(node: Node, tensor: torch.Tensor, mode: FakeTensorMode) -> None:
    graph = node.graph
    last = graph.find_nodes(op="placeholder")
    with graph.inserting_after(last[-1]) if last else graph.inserting_before(next(iter(graph.nodes))):
        argument = graph.placeholder(str(node.target).replace(".", "_"))
    with mode:
        argument.meta["val"] = torch.empty(tensor.shape, dtype=tensor.dtype)
    node.replace_all_uses_with(argument)
    graph.erase_node(node)


def expose_results(graph_module: GraphModule, mode: FakeTensorMode) -> list[Result | Literal]:
    """Turn the graph's outputs into what the program returns, in place: dense tensors in their memory's order."""
    graph = graph_module.graph
    output = graph.output_node()
    outputs: list[Result | Literal] = []
    returned: list[Node] = []
    for value in output.args[0]:
        if not isinstance(value, Node):
            outputs.append(Literal(value))
            continue
        fake = value.meta["val"]
        if not isinstance(fake, torch.Tensor):
            line = user_line(value)
            raise UnsupportedInput(f"output {value.name} of the graph is a {type(fake).__name__} (at {line})")
        spec = spec_of(fake)
        outputs.append(Result(spec))
        returned.append(_leave_permuted(output, value, spec, mode))
    output.args = (tuple(returned),)
    return outputs


def _leave_permuted(output: Node, value: Node, spec: TensorSpec, mode: FakeTensorMode) -> Node:
    if spec.order == tuple(range(len(spec.shape))):
        return value
    with output.graph.inserting_before(output):
        physical = output.graph.call_function(permute, (value, list(spec.order)))
    physical.meta.update({k: v for k, v in value.meta.items() if k == "stack_trace"})
    with mode:
        physical.meta["val"] = torch.empty(spec.physical_shape, dtype=spec.dtype)
    return physical
