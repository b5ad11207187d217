"""The first step of a graph's road: a functional ATen graph as AOTAutograd gives it, made ready for lowering."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import sympy
import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import SizeSource, operation_names, plain_numbers, prepare, readable, size_sources, user_line
from tpu_dynamo_runtime import Span

from .._torch_compat import (
    forward_returns,
    frame_function,
    graph_tensors,
    guards,
    input_name,
    shape_guards,
    size_hint,
    static_inputs,
)
from ..artifacts import Artifacts
from ..cache.signature import Frame
from ..device import NAME as DEVICE
from ..distributed.meshes import span_collectives
from ..formatting import format_count
from .freezing import FrozenModule, check_role, freezable, freeze

# In a step's graph: the positions of the inputs whose gradient a node is.
GRADIENT_OF = "tpu_dynamo_gradient_of"

# Numbers for a graph's symbols.
Sizes = Mapping[sympy.Symbol, int | float]

# Takes the list of a graph's inputs, which it may empty, and returns its outputs: tensors, sizes and None.
BoxedCallable = Callable[[list[Any]], list[Any]]

# Compiles a graph for the sizes of its inputs.
Make = Callable[["PreparedGraph", Sequence[Any]], BoxedCallable]
# Makes of a graph, of what compiles it and of its example inputs a callable that watches the compiled graph's calls.
Watch = Callable[["PreparedGraph", Make, Sequence[Any]], BoxedCallable]


@dataclass(frozen=True)
class PreparedGraph:
    """A functional ATen graph ready for lowering, with all that is known of it whatever its sizes are.

    name: as in logs and dump folders. role: `forward`, `backward`, `inference` or `step`. module: what is lowered.
    eager: the same graph for PyTorch, should the options allow it to run there. on_device: True if its tensors are on
    torch.device("tpu"). static: the positions of inputs that are the same at every call: parameters and buffers.
    returned: how many outputs of a forward graph the caller gets; the others only its backward graph reads. span: the
    ranks that run the graph together, if it has collectives, which then name positions among them. frame: the code that
    it was captured from. output_names: those of its first outputs, where they have any. forms: what it was before, for
    dump folders and traces: file name to writer.
    """

    name: str
    role: str
    module: GraphModule
    eager: GraphModule
    on_device: bool
    static: Collection[int] = ()
    returned: int | None = None
    span: Span = ()
    frame: Frame = field(default_factory=Frame)
    output_names: tuple[str, ...] = ()
    forms: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    @property
    def handed_out(self) -> int | None:
        """The number of the first outputs that leave compiled code: None for all, 0 for gradients and whole steps."""
        return self.returned if self.role in ("forward", "inference") else 0

    @property
    def described(self) -> str:
        """The graph for people: `forward graph of Model.forward (model.py:12), 143 operators`."""
        operators = [node for node in self.module.graph.nodes if node.op == "call_function"]
        line = next(filter(None, map(user_line, operators)), None)
        where = f" ({Path(line.file).name}:{line.line})" if line else ""
        function = f" of {self.frame.function}" if self.frame.function else ""
        return f"{self.role} graph{function}{where}, {format_count(len(operators), 'operator')}"

    @property
    def gradients(self) -> list[tuple[int, str]]:
        """The gradients in a step, as its optimizer takes them: the positions of inputs, and the names of nodes."""
        nodes = self.module.graph.nodes
        return sorted((position, node.name) for node in nodes for position in node.meta.get(GRADIENT_OF, ()))

    @cached_property
    def size_sources(self) -> tuple[SizeSource, ...]:
        """The graph's symbols, each with the input that it is read from. Raises UnsupportedOp."""
        return size_sources(self.module)

    @cached_property
    def numbers(self) -> tuple[SizeSource, ...]:
        """The graph's integers of which no size depends: its programs can take them as inputs."""
        return plain_numbers(self.module)

    def sizes(self, inputs: Sequence[Any]) -> Sizes:
        """Read the numbers of the graph's symbols from its inputs, fake ones too. Raises UnsupportedOp."""
        return {source.symbol: size_hint(source.read(inputs)) for source in self.size_sources}

    def artifacts(self, sizes: Sizes, dump_dir: Path | None = None) -> Artifacts:
        """Return the place for the graph's forms at these sizes, named as `0003-forward-s0=4`."""
        suffix = "".join(f"-{symbol}={size}" for symbol, size in sizes.items())
        return Artifacts(self.name + suffix, dump_dir, self.forms)

    @property
    def freezable(self) -> list[int]:
        """The positions of inputs that can become constants. Raises OptionError for a graph in training."""
        check_role(self.role)
        return freezable(self.module, self.static)

    def frozen(self, constants: Mapping[int, Any]) -> tuple[PreparedGraph, FrozenModule]:
        """Return the graph with some inputs' tensors as constants, and what maps a call's inputs to its inputs.

        constants: tensors by the positions of their inputs, of those that are `freezable`.
        """
        module = freeze(self.module, constants)
        resident = [i for i, position in enumerate(module.moving) if position in self.static]
        static = {*resident, *range(len(module.moving), len(module.moving) + len(module.values))}
        return replace(self, module=module.module, eager=module.module, static=static), module


def prepare_graph(
    role: str,
    graph_module: GraphModule,
    name: str,
    frame: Frame | None = None,
    forms: Mapping[str, Callable[[], str]] | None = None,
) -> PreparedGraph:
    """Make a graph of AOTAutograd's ready for lowering; called while AOTAutograd compiles it.

    role: `forward`, `backward` or `inference`. forms: what it was before AOTAutograd. Raises UnsupportedInput and
    IrregularGroups for collectives of which the other ranks' part cannot be known.
    """
    module = prepare(graph_module)
    span = span_collectives(module)
    return PreparedGraph(
        name=name,
        role=role,
        module=module,
        eager=graph_module,
        # Not by the inputs of Dynamo's graph: it may make tensors on the device, or take them in lists.
        on_device=any(tensor.device.type == DEVICE for tensor in graph_tensors(graph_module)),
        static=static_inputs(graph_module, backward=role == "backward"),
        returned=forward_returns() if role == "forward" else None,
        span=span,
        frame=frame or Frame(),
        forms={**(forms or {}), "aot.fx.py": lambda: readable(graph_module)},
    )


def written_inputs(graph_module: GraphModule) -> list[int]:
    """Return the positions of the inputs that a graph of AOTAutograd's writes to."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    writes = graph_module.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)
    targets = {node.args[0] for node in writes}
    return [position for position, node in enumerate(placeholders) if node in targets]


def captured_frame(graph_module: GraphModule) -> Frame:
    """Return what Dynamo knows of the code that it captured a graph from; called while Dynamo compiles it."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    names, operations = tuple(map(input_name, placeholders)), operation_names(graph_module)
    return Frame(names, tuple(guards()), tuple(shape_guards()), frame_function(), operations)
