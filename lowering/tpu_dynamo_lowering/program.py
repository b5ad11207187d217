"""The result of lowering: a StableHLO program, and how a caller's tensors enter and leave it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import jax_compat


@dataclass(frozen=True)
class TensorSpec:
    """The shape, dtype and memory order of one tensor that enters or leaves a program.

    `order` lists the tensor's dimensions from the outermost in memory to the innermost; the program sees the
    tensor permuted by it, so that a dense tensor of any stride order is passed without a copy. Row-major is
    `(0, 1, ..., rank - 1)`. device: the type of the device that the graph has it on.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: tuple[int, ...]
    device: str = "cpu"

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The shape that the program sees."""
        return tuple(self.shape[d] for d in self.order)

    @property
    def nbytes(self) -> int:
        """The bytes of the dense tensor."""
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class Argument:
    """One operand of the program: the graph input at `position`, or, past the inputs, a constant of the graph."""

    position: int
    spec: TensorSpec


@dataclass(frozen=True)
class Computed:
    """One output of the graph that is a result of the program."""

    result: int


@dataclass(frozen=True)
class View:
    """One output of the graph that shares memory with others: a strided view of a result, in its memory."""

    result: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Given:
    """One output of the graph that is the very tensor of its input at `position`, as a forward graph saves it."""

    position: int


@dataclass(frozen=True)
class Literal:
    """One output of the graph that is known without running it: `None`, or a size."""

    value: bool | int | float | None


@dataclass(frozen=True)
class Number:
    """One output of the graph that is a Python int: a result without dimensions, read when the program has run."""

    result: int


@dataclass(frozen=True)
class Sparse:
    """One output of the graph that is a sum of sparse COO tensors.

    terms: of each the results that are its indices and its values. gaps: whether entries with negative indices are to
    be left out.
    """

    terms: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    gaps: bool


@dataclass(frozen=True)
class MeshGroup:
    """One output of the graph that is a process group: of a dimension of the DeviceMesh that is its input."""

    position: int
    dimension: int


Output = Computed | View | Given | Literal | Number | Sparse | MeshGroup


@dataclass(frozen=True)
class Update:
    """A write of the graph to its input at `position`: the result of that number is the input's value afterwards.

    argument: the argument of `@main` whose memory the result takes, if the program reads the input; its buffer is
    donated with each call.
    """

    position: int
    result: int
    argument: int | None = None


@dataclass(frozen=True)
class Program:
    """A StableHLO module with one `@main`, and how the graph's inputs and outputs map onto it.

    stablehlo: MLIR bytecode, with the user's source locations.
    digest: SHA-256 of the module without its locations: equal for equal computations wherever they stand.
    arguments: in the order of `@main`'s parameters. results: what `@main` returns, in its order.
    outputs: in the order of the graph's outputs. updates: what the graph writes to its inputs.
    constants: tensors that the graph holds and `@main` takes after the graph's own inputs.
    storage_offsets: positions of inputs that must begin at an element of their storages, and that element.
    random_keys: the number of int64 keys that each call draws; they are one vector, the input after the graph's own.
    custom_calls: the targets of its custom calls, which whoever compiles or loads it must have registered.
    replicas: the number of devices that it spans, one of each rank in the order of their positions; 0 for one without
    collectives, which runs on a device alone.
    operations: the names of the graph's operations that stablehlo has, as `operation_names` lists them.
    """

    stablehlo: bytes
    digest: str
    arguments: tuple[Argument, ...]
    results: tuple[TensorSpec, ...]
    outputs: tuple[Output, ...]
    updates: tuple[Update, ...]
    constants: tuple[torch.Tensor, ...]
    random_keys: int
    custom_calls: tuple[str, ...] = ()
    storage_offsets: tuple[tuple[int, int], ...] = ()
    replicas: int = 0
    operations: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """The number of arguments that are inputs of the graph or random keys; the rest are constants."""
        return len(self.arguments) - len(self.constants)

    def outline(self) -> list[str]:
        """List the program's operations, each with the types of its results and the user's line, to compare it by."""
        return jax_compat.outline(self.stablehlo)

    def without_locations(self) -> bytes:
        """Return the program as MLIR bytecode that names no file."""
        return jax_compat.without_locations(jax_compat.parse(self.stablehlo, jax_compat.new_context()))

    def text(self) -> str:
        """Print the program as MLIR text with locations; large constants are elided."""
        return jax_compat.as_text(self.stablehlo)
