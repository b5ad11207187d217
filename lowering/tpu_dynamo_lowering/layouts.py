"""The layouts of tensors that enter and leave a program: memory order made explicit, constants as arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensorMode, OpOverload, is_view, opaque_type
from .errors import UnsupportedInput, user_line
from .loop_numbers import as_number
from .program import Argument, Computed, Given, Literal, MeshGroup, Number, Output, Sparse, TensorSpec, Update, View
from .sparse import take_apart
from .table import PATTERN_DTYPES
from .updates import take_writes

# A tensor of the graph's own with at most so many elements is written into the program, where XLA folds it, if
# torch-mlir has its dtype.
_LITERAL_ELEMENTS = 256

permute = torch.ops.aten.permute.default


def memory_order(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Return the dimensions of a dense tensor from the outermost in memory to the innermost.

    Row-major for a tensor that is not dense (expanded, overlapping or with gaps): it enters as a contiguous
    copy. Dimensions of extent 1 keep their place, since their strides mean nothing.
    """
    return dense_order(shape, stride) or tuple(range(len(shape)))


def dense_order(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...] | None:
    """Return the memory order of a dense tensor, None for one that is not dense."""
    real = [d for d in range(len(shape)) if shape[d] != 1]
    by_stride = sorted(real, key=lambda d: -stride[d])
    expected = 1
    for d in reversed(by_stride):
        if stride[d] != expected:
            return None
        expected *= shape[d]
    given = iter(by_stride)
    return tuple(next(given) if shape[d] != 1 else d for d in range(len(shape)))


def spec_of(value: torch.Tensor) -> TensorSpec:
    """Make the spec of a fake tensor of concrete sizes."""
    shape = tuple(value.shape)
    return TensorSpec(shape, value.dtype, memory_order(shape, value.stride()), value.device.type)


def expose_arguments(graph_module: GraphModule, mode: FakeTensorMode) -> tuple[list[Argument], list[torch.Tensor]]:
    """Make a graph's placeholders, in place, the program's arguments; its large constants become placeholders.

    A tensor whose memory is not row-major enters permuted to its memory order, and the graph begins by
    permuting it back: free in XLA, which gives the permuted parameter a layout. Placeholders without users go.
    Raises UnsupportedInput for what is neither a tensor nor a number.
    """
    graph = graph_module.graph
    arguments: list[Argument] = []
    constants: list[torch.Tensor] = []
    placeholders = graph.find_nodes(op="placeholder")
    for position, node in enumerate(placeholders):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and node.users:
            spec = spec_of(value)
            _enter_permuted(node, spec, mode)
            arguments.append(Argument(position, spec))
        elif node.users:
            raise UnsupportedInput(f"input {node.name} of the graph", f"is a {type(value).__name__}: {value!r}")
        else:
            graph.erase_node(node)
    position = len(placeholders)
    for node in graph.find_nodes(op="get_attr"):
        tensor = getattr(graph_module, node.target)
        if isinstance(tensor, torch.Tensor) and not _is_literal(tensor):
            arguments.append(Argument(position, spec_of(tensor.contiguous())))
            # On the CPU, also where the graph has them on a device: the program is kept on disk.
            constants.append(tensor.detach().cpu().resolve_conj().resolve_neg().contiguous())
            position += 1
            _become_placeholder(node, tensor, mode)
    return arguments, constants


def _is_literal(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= _LITERAL_ELEMENTS and tensor.dtype in PATTERN_DTYPES


def _enter_permuted(node: Node, spec: TensorSpec, mode: FakeTensorMode) -> None:
    if spec.order == tuple(range(len(spec.shape))):
        return
    inverse = [spec.order.index(d) for d in range(len(spec.order))]
    with node.graph.inserting_after(node):
        back = node.graph.call_function(permute, (node, inverse))
    node.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
    with mode:
        back.meta["val"] = node.meta["val"]
        node.meta["val"] = torch.empty(spec.physical_shape, dtype=spec.dtype, device="cpu")


def _become_placeholder(node: Node, tensor: torch.Tensor, mode: FakeTensorMode) -> None:
    graph = node.graph
    last = graph.find_nodes(op="placeholder")
    with graph.inserting_after(last[-1]) if last else graph.inserting_before(next(iter(graph.nodes))):
        argument = graph.placeholder(str(node.target).replace(".", "_"))
    with mode:
        argument.meta["val"] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    node.replace_all_uses_with(argument)
    graph.erase_node(node)


def expose_results(
    graph_module: GraphModule, mode: FakeTensorMode
) -> tuple[list[TensorSpec], list[Output], list[Update]]:
    """Turn the graph's outputs into what the program returns, in place: dense tensors in their memory's order.

    Outputs that are views of one tensor, or of an input's new value, share its memory, as in eager PyTorch: the program
    returns that tensor once, and each of them is a view of it. A lone view is computed as a tensor of its own. An
    output that is an input needs no program. What the graph writes to an input is a result in the input's own memory
    order. Of a sparse tensor the program returns indices and values. Raises UnsupportedOp as `take_apart` does.
    """
    graph = graph_module.graph
    output = graph.output_node()
    returned: dict[tuple[Node, TensorSpec], int] = {}
    specs: list[TensorSpec] = []
    outputs: list[Output] = []

    def result(node: Node, like: Node | None = None) -> int:
        spec = spec_of((like or node).meta["val"])
        if (node, spec) not in returned:
            returned[node, spec] = len(specs)
            specs.append(spec)
        return returned[node, spec]

    inputs = graph.find_nodes(op="placeholder")
    positions = {node: i for i, node in enumerate(inputs)}
    writes = take_writes(graph)
    sparse = take_apart(graph, mode)
    written = {position for position, _ in writes}
    for value, base in _with_bases(output, [value for _, value in writes]):
        if not isinstance(value, Node):
            outputs.append(Literal(value))
        elif value.target is as_number:
            outputs.append(Number(result(value.all_input_nodes[0])))
        elif value in positions and positions[value] not in written:
            outputs.append(Given(positions[value]))
        elif _is_group(value):
            mesh, dimension = value.args
            outputs.append(MeshGroup(positions[mesh], dimension))  # pyright: ignore[reportArgumentType]
        elif value in sparse:
            parts = sparse[value]
            shape = tuple(value.meta["val"].shape)
            outputs.append(Sparse(tuple((result(i), result(v)) for i, v in parts.terms), shape, parts.gaps))
        elif base is None or base is value:
            outputs.append(Computed(result(value)))
        else:
            fake = value.meta["val"]
            outputs.append(View(result(base), tuple(fake.shape), fake.stride(), value.meta["storage_offset"]))
    updates = [Update(position, result(value, inputs[position])) for position, value in writes]
    output.args = (tuple(_leave_permuted(output, node, spec, mode) for node, spec in returned),)
    for node in reversed(sparse):
        graph.erase_node(node)
    for node in [node for node in graph.nodes if _is_group(node)]:
        graph.erase_node(node)
    return specs, outputs, updates


def _with_bases(output: Node, written: Sequence[Node]) -> list[tuple[Any, Node | None]]:
    """Return each output with the tensor that it and another output view; None for one that shares no memory.

    written: the new values of inputs. A view of one is an output too: AOTAutograd makes it of the input, and asks the
    output for its strides.
    """
    values: Any = output.args[0]
    for value in values:
        if not isinstance(value, Node) or _is_passed_on(value):
            continue
        fake = value.meta["val"]
        if not isinstance(fake, torch.Tensor):
            why = f"is a {type(fake).__name__} (at {user_line(value)})"
            raise UnsupportedInput(f"output {value} of the graph", why)
    shared = shared_memory(values, written)
    return [
        (value, base if (base := shared[i]) is not None and _is_whole(base) else None) for i, value in enumerate(values)
    ]


def shared_memory(outputs: Sequence[Any], written: Sequence[Node]) -> list[Node | None]:
    """Return the tensor that each of a graph's outputs views, if another output or a new value of an input does too."""
    viewed = [_base(value) if isinstance(value, Node) and not _is_passed_on(value) else None for value in outputs]
    by_output = {value: base for value, base in zip(outputs, viewed, strict=True) if isinstance(value, Node)}
    counts = Counter([*by_output.values(), *(_base(value) for value in written)])
    return [base if base is not None and counts[base] > 1 else None for base in viewed]


def _is_passed_on(node: Node) -> bool:
    """Tell whether a node is an opaque input, as a DeviceMesh, or a process group of one: no program computes it."""
    return (node.op == "placeholder" and opaque_type(node.meta.get("val")) is not None) or _is_group(node)


def _is_group(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.name == "_dtensor::mesh_get_process_group"


def _base(node: Node) -> Node | None:
    """Return the tensor whose memory `node` views; None for a graph's input: AOTAutograd makes its views itself."""
    while is_view(node):
        node = node.all_input_nodes[0]
    return None if node.op == "placeholder" else node


def _is_whole(node: Node) -> bool:
    # Only a dense tensor that begins its memory can be given back as a program's result and viewed anew.
    fake = node.meta["val"]
    return node.meta["storage_offset"] == 0 and dense_order(fake.shape, fake.stride()) is not None


def _leave_permuted(output: Node, value: Node, spec: TensorSpec, mode: FakeTensorMode) -> Node:
    if spec.order == tuple(range(len(spec.shape))):
        return value
    with output.graph.inserting_before(output):
        physical = output.graph.call_function(permute, (value, list(spec.order)))
    physical.meta.update({k: v for k, v in value.meta.items() if k == "stack_trace"})
    with mode:
        physical.meta["val"] = torch.empty(spec.physical_shape, dtype=spec.dtype, device="cpu")
    return physical
