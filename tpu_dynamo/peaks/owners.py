"""Names and owners of a program's values, from the graph that the program was lowered from."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch.fx import GraphModule

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import HeldValue, Peak

from ..cache.signature import Frame, input_names

PARAMETERS, STATE, GRADIENTS = "parameters", "optimizer state", "gradients"
ACTIVATIONS, INPUTS, OUTPUTS = "saved for the backward", "inputs", "outputs"
INTERMEDIATE, CONSTANTS, NUMBERS = "intermediate values", "constants", "numbers"
UPDATES = "new values beside the old"

# Dynamo's expression for an attribute of a module: L['self']._modules['layers']._modules['0']._parameters['weight'].
_ATTRIBUTE = re.compile(r"\._(?:modules|parameters|buffers)\['([^']*)'\]")
_TANGENT = "tangents_"


class Graph(Protocol):
    """A graph before its program, as PreparedGraph describes it."""

    @property
    def role(self) -> str:
        """`forward`, `backward`, `inference` or `step`."""
        ...

    @property
    def module(self) -> GraphModule:
        """The graph that was lowered."""
        ...

    @property
    def frame(self) -> Frame:
        """The code that it was captured from."""
        ...

    @property
    def static(self) -> Collection[int]:
        """The positions of inputs that are parameters and buffers."""
        ...

    @property
    def returned(self) -> int | None:
        """The number of a forward graph's outputs that the caller gets."""
        ...


@dataclass(frozen=True)
class Owned:
    """The name and the owner of one argument or result."""

    name: str
    owner: str


@dataclass(frozen=True)
class Interface:
    """A program's arguments and results for people.

    role: of the graph. platform: that it is lowered for. batch: the size of the inputs' first dimension, 1 where they
    differ or have none. trained: the sizes of parameters in ascending order, which gradients have too.
    """

    role: str
    platform: str
    arguments: tuple[Owned, ...]
    results: tuple[Owned, ...]
    batch: int
    trained: frozenset[tuple[int, ...]]


def interface_of(program: Program, graph: Graph, platform: str) -> Interface:
    """Return the names and owners of a program's arguments and results."""
    names = input_names(graph.module, graph.frame.inputs)
    arguments = [
        Owned(f"constant {number}", CONSTANTS) if number >= program.inputs else _argument(graph, names, a.position)
        for number, a in enumerate(program.arguments)
    ]
    shapes = [argument.spec.shape for argument in program.arguments]
    of = list(zip(shapes, arguments, strict=True))
    batches = {shape[0] for shape, owned in of if owned.owner == INPUTS and shape}
    trained = {tuple(sorted(shape)) for shape, owned in of if owned.owner == PARAMETERS and shape}
    results = dict(_results(program, graph, arguments))
    unnamed = Owned("result", OUTPUTS)
    return Interface(
        graph.role,
        platform,
        tuple(arguments),
        tuple(results.get(number, unnamed) for number in range(len(program.results))),
        batches.pop() if len(batches) == 1 else 1,
        frozenset(trained),
    )


def owned_peak(peak: Peak, interface: Interface) -> Peak:
    """Return a peak whose values have the names and owners of the program's interface."""
    return replace(peak, values=tuple(_owned(value, interface) for value in peak.values))


def _owned(value: HeldValue, interface: Interface) -> HeldValue:
    if value.parameter is not None and value.parameter < len(interface.arguments):
        owned = interface.arguments[value.parameter]
        return replace(value, name=owned.name, owner=owned.owner)
    if value.result is not None and value.result < len(interface.results):
        owned = interface.results[value.result]
        return replace(value, name=owned.name, owner=owned.owner)
    if value.what == "temporary":
        trains = interface.role in ("step", "backward")
        like_parameter = trains and tuple(sorted(value.shape)) in interface.trained
        return replace(value, owner=GRADIENTS if like_parameter else INTERMEDIATE)
    return replace(value, owner={"constant": CONSTANTS, "output": OUTPUTS}.get(value.what, value.what))


def _argument(graph: Graph, names: Sequence[str], position: int) -> Owned:
    if position >= len(names):
        return Owned("random keys", NUMBERS)
    name = readable(names[position])
    for prefix, owner in (("parameter ", PARAMETERS), ("state ", STATE), ("number ", NUMBERS)):
        if graph.role == "step" and name.startswith(prefix):
            return Owned(name.removeprefix(prefix), owner)
    if position in graph.static:
        return Owned(name, PARAMETERS)
    if graph.role == "backward":
        return Owned(name, GRADIENTS if name.startswith(_TANGENT) else ACTIVATIONS)
    return Owned(name, INPUTS)


def _results(program: Program, graph: Graph, arguments: Sequence[Owned]) -> Iterator[tuple[int, Owned]]:
    """Yield by the numbers of results whose they are; those that take an input's memory are its argument's."""
    by_position = {a.position: owned for a, owned in zip(program.arguments, arguments, strict=True)}
    for number, output in enumerate(program.outputs):
        result = getattr(output, "result", None)
        if result is None:
            continue
        if graph.role == "backward":
            yield result, Owned(f"gradient {number}", GRADIENTS)
        elif graph.returned is not None and number >= graph.returned:
            yield result, Owned(f"saved value {number - graph.returned}", ACTIVATIONS)
        else:
            yield result, Owned(f"output {number}", OUTPUTS)
    for update in program.updates:
        owned = by_position.get(update.position)
        yield update.result, Owned(f"new value of {owned.name if owned else 'an input'}", UPDATES)


def readable(name: str) -> str:
    """Return Dynamo's name for a module's tensor as PyTorch's users write it, as `layers.0.weight`."""
    found = _ATTRIBUTE.findall(name)
    return ".".join(found) if found and name.endswith("]") else name
