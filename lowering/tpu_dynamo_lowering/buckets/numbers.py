"""The numbers of a padded graph that change from call to call, computed by the program from its lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy
import torch

from .._torch_compat import symbolic_functions as torch_functions
from .extents import NotProven

aten = torch.ops.aten

# Adds a call of an operator to the graph.
Call = Callable[..., Any]

_FOLDED: dict[type, Any] = {
    sympy.Add: aten.add.Tensor,
    sympy.Mul: aten.mul.Tensor,
    sympy.Max: aten.maximum.default,
    torch_functions.Max: aten.maximum.default,
    sympy.Min: aten.minimum.default,
    torch_functions.Min: aten.minimum.default,
}
_COMPUTED: dict[type, Any] = {
    sympy.Pow: aten.pow.Tensor_Tensor,
    torch_functions.PowByNatural: aten.pow.Tensor_Tensor,
    torch_functions.FloatPow: aten.pow.Tensor_Tensor,
    sympy.Mod: aten.remainder.Tensor,
    torch_functions.Mod: aten.remainder.Tensor,
    torch_functions.PythonMod: aten.remainder.Tensor,
    torch_functions.OpaqueUnaryFn_sqrt: aten.sqrt.default,
}
_FLOORED = (torch_functions.FloorDiv, torch_functions.CleanDiv)
_DIVIDED = (torch_functions.IntTrueDiv, torch_functions.FloatTrueDiv)


def compute(call: Call, expression: sympy.Expr, term: Callable[[Any], Any]) -> Any:
    """Add the operators that compute an expression: int64 where it is whole, else float64, without dimensions.

    term: adds what computes one of its terms. Raises NotProven for functions that no operator computes.
    """
    if expression.is_number:
        if expression.is_integer:
            return call(aten.scalar_tensor.default, int(expression), dtype=torch.int64)
        return call(aten.scalar_tensor.default, float(expression), dtype=torch.float64)
    kind = type(expression)
    terms = [term(argument) for argument in expression.args]
    if kind in _FOLDED:
        return reduce(lambda left, right: call(_FOLDED[kind], left, right), terms)
    if kind in _COMPUTED:
        return call(_COMPUTED[kind], *terms)
    if kind in _FLOORED:
        return call(aten.div.Tensor_mode, *terms, rounding_mode="floor")
    if kind is torch_functions.ToFloat:
        return call(aten._to_copy.default, terms[0], dtype=torch.float64)
    if kind in _DIVIDED:
        return call(aten.div.Tensor, *(call(aten._to_copy.default, each, dtype=torch.float64) for each in terms))
    raise NotProven(f"a number of it, {expression}, is computed by {kind.__name__}")
