"""Shapes of a JAX function's results as PyTorch asks for them: numbers, or expressions of symbolic sizes."""

from __future__ import annotations

import ast
import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import sympy
import torch
from jax import export

from ._torch_compat import pytree
from .jax_compat import InconclusiveSize
from .jax_functions import result_types
from .kernels.dtypes import jax_dtype, torch_dtype

log = logging.getLogger("tpu_dynamo")

# What JAX and users' functions raise where a size must be a number.
_NEED_NUMBERS = (InconclusiveSize, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Pow": operator.pow,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": torch.sym_max,
    "min": torch.sym_min,
}


def fake_results(name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Return fake tensors, side by side, with the shapes and dtypes of a JAX function's results.

    Of symbolic sizes the results' are expressions, where JAX can tell; where it cannot, PyTorch is asked for numbers:
    then each set of sizes is a graph of its own, which is logged.
    """
    leaves = pytree.tree_leaves((list(args), kwargs))
    device = next(leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor))
    symbols = _Symbols()
    symbolic = any(
        isinstance(number, torch.SymInt)
        for leaf in leaves
        for number in (leaf.shape if isinstance(leaf, torch.Tensor) else [leaf])
    )
    types = None
    if symbolic:
        try:
            symbols.meet(leaves)
            given, named = pytree.tree_map(lambda leaf: _type(leaf, symbols.dimension), (list(args), kwargs))
            types = result_types(function, given, named)[1]
        except _NEED_NUMBERS as error:
            log.info("%s needs numbers for sizes, so that each set of them is compiled apart: %s", name, error)
    if types is None:
        given, named = pytree.tree_map(lambda leaf: _type(leaf, int), (list(args), kwargs))
        types = result_types(function, given, named)[1]
    return [
        torch.empty([symbols.size(n) for n in each.shape], dtype=torch_dtype(each.dtype), device=device)
        for each in types
    ]


def _type(leaf: Any, dimension: Callable[[Any], Any]) -> Any:
    if isinstance(leaf, torch.Tensor):
        return jax.ShapeDtypeStruct(tuple(map(dimension, leaf.shape)), jax_dtype(leaf.dtype))
    return dimension(leaf) if isinstance(leaf, torch.SymInt) else leaf


class _Symbols:
    """PyTorch's symbolic sizes as JAX's: polynomials of the same symbols, or symbols of their own."""

    def __init__(self) -> None:
        self._scope = export.SymbolicScope()
        self._values: dict[str, Any] = {}
        self._dimensions: dict[sympy.Expr, Any] = {}

    def meet(self, leaves: Sequence[Any]) -> None:
        """Take note of the symbols among shapes and numbers."""
        for leaf in leaves:
            for number in leaf.shape if isinstance(leaf, torch.Tensor) else [leaf]:
                if isinstance(number, torch.SymInt) and isinstance(number.node.expr, sympy.Symbol):
                    self._values[str(number.node.expr)] = number

    def dimension(self, number: Any) -> Any:
        """Return a size as JAX has it."""
        if not isinstance(number, torch.SymInt):
            return number
        expression = number.node.expr
        if expression not in self._dimensions:
            known = all(str(symbol) in self._values for symbol in expression.free_symbols)
            if expression.is_polynomial() and known:
                text = str(expression).replace("**", "^")
            else:
                text = f"size{len(self._dimensions)}"
                self._values[text] = number
            (self._dimensions[expression],) = export.symbolic_shape(text, scope=self._scope)
        return self._dimensions[expression]

    def size(self, dimension: Any) -> Any:
        """Return a size of JAX's as PyTorch has it."""
        if isinstance(dimension, int):
            return dimension
        # JAX writes sizes as Python does, but for powers.
        return self._number(ast.parse(str(dimension).replace("^", "**"), mode="eval").body)

    def _number(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Constant):
            return tree.value
        if isinstance(tree, ast.Name):
            return self._values[tree.id]
        if isinstance(tree, ast.UnaryOp):
            return -self._number(tree.operand)
        if isinstance(tree, ast.BinOp):
            return _OPERATIONS[type(tree.op).__name__](self._number(tree.left), self._number(tree.right))
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name), ast.dump(tree)
        return _OPERATIONS[tree.func.id](*map(self._number, tree.args))
