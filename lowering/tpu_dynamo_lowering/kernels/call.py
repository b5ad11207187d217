"""Kernel calls: the nodes of a graph that a JAX function computes, and how that function is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.fx import Graph, Node

from .._torch_compat import pytree
from ..choice import choose
from ..errors import describe_call, tensors_of
from ..expand import call_key
from ..outside import OutsideLowering
from ..schema_checks import COMPILED_FOR
from ..source_lines import SourceLine, user_line
from ..subgraphs import operands, subgraph
from ..table import Lowering
from ..target import ANY, Target
from .casts import cast
from .dtypes import jax_dtype

# The key of a node's KernelCall in its metadata.
META = "tpu_dynamo_kernel"

_OPERAND = object()


@dataclass(frozen=True)
class KernelCall:
    """One distinct call of a kernel: equal calls of a graph share it, and its code.

    symbol: the name of the function in the program. key: equal for equal calls, in any process.
    leaves, structure: the flattened arguments, with a mark in each tensor's place. operands, results: (shape,
    dtype) of the tensors that go in and come out. what, line, node: the call in words, the user's line and the name of
    the node, of the first of the equal calls. outside: a user's or a library's function, which may be wrong.
    """

    symbol: str
    key: str
    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    structure: pytree.TreeSpec
    operands: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    results: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    what: str
    line: SourceLine | None
    node: str
    outside: bool = False

    def operand_types(self) -> list[jax.ShapeDtypeStruct]:
        """Return the operands' shapes and dtypes as JAX describes them."""
        return [jax.ShapeDtypeStruct(shape, jax_dtype(dtype)) for shape, dtype in self.operands]

    def __call__(self, *operands: jax.Array) -> tuple[jax.Array, ...]:
        """Trace the kernel on `operands`; the results have the operator's shapes and dtypes in PyTorch.

        Raises NotImplementedError for other results of a function from outside.
        """
        given = iter(operands)
        leaves = [next(given) if leaf is _OPERAND else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        found = self.function(*args, **kwargs)
        found = found if isinstance(found, tuple | list) else (found,)
        arrays = [jnp.asarray(each) for each in found if each is not None]
        shapes = [shape for shape, _ in self.results]
        if not self.outside and len(arrays) == len(shapes):
            # On a CPU PyTorch returns unneeded statistics empty.
            arrays = [a[: s[0]] if len(s) == a.ndim == 1 else a for a, s in zip(arrays, shapes, strict=True)]
        if (own := [array.shape for array in arrays]) != shapes:
            kind = NotImplementedError if self.outside else AssertionError
            raise kind(f"the shapes of its lowering's results and of its fake kernel's differ: {own} and {shapes}")
        return tuple(cast(array, dtype) for array, (_, dtype) in zip(arrays, self.results, strict=True))


def mark_kernels(graph: Graph, target: Target = ANY) -> dict[str, KernelCall]:
    """Store the KernelCall of each kernel operator in its node's metadata; return the distinct calls by symbol.

    target: for kernels that ask for it.
    """
    calls: dict[str, KernelCall] = {}
    for node in graph.nodes:
        lowering = choose(node) if node.op == "call_function" else None
        if not isinstance(lowering, Lowering):
            continue
        # A call's results may have other sizes on another device.
        key = f"{call_key(node)}|{_types(tensors_of(node))}"
        outside = isinstance(lowering, OutsideLowering)
        if outside:
            key = f"{key}|{lowering.identity()}"
        function = lowering.function
        if COMPILED_FOR in inspect.signature(function).parameters:
            key, function = f"{key}|{target}", partial(function, compiled_for=target)
        if key not in calls:
            calls[key] = _call_of(node, function, key, f"kernel_{len(calls)}_{_name(node)}", outside)
        node.meta[META] = calls[key]
    return {call.symbol: call for call in calls.values()}


def _call_of(node: Node, function: Callable[..., Any], key: str, symbol: str, outside: bool) -> KernelCall:
    leaves, structure = pytree.tree_flatten((node.args, node.kwargs))
    return KernelCall(
        symbol=symbol,
        key=key,
        function=function,
        leaves=tuple((subgraph(leaf) or _OPERAND) if isinstance(leaf, Node) else leaf for leaf in leaves),
        structure=structure,
        operands=_types(value for leaf in operands(node) for value in tensors_of(leaf)),
        results=_types(tensors_of(node)),
        what=describe_call(node),
        line=user_line(node),
        node=node.name,
        outside=outside,
    )


def _name(node: Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).replace(".", "_")


def _types(values: Any) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    return tuple((tuple(value.shape), value.dtype) for value in values)


def static(values: Sequence[Any] | int, rank: int) -> tuple[int, ...]:
    """Return a schema's dimension list as a tuple of `rank` numbers; a single number stands for all of them."""
    values = (values,) if isinstance(values, int) else tuple(values)
    return values * rank if len(values) == 1 else values
