"""Python numbers where operators take tensors: made tensors, where no tensor stands beside them."""

from __future__ import annotations

import torch
from torch.fx import Node

from ._torch_compat import FakeTensorMode, OpOverload

_scalar_tensor = torch.ops.aten.scalar_tensor.default
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}


def wrap_number(node: Node, mode: FakeTensorMode) -> None:
    """Turn a call's only operand into a tensor, in place, if it is a number.

    PyTorch wraps such numbers, and tracing unwraps them: under vmap, `x * 2` casts the 2 before it multiplies. Beside
    tensors they stay numbers, which decide less about the result's dtype.
    """
    if not isinstance(node.target, OpOverload) or node.all_input_nodes or not node.args:
        return
    first, number = node.target._schema.arguments[0], node.args[0]
    if isinstance(first.type, torch.TensorType) and type(number) in _DTYPES:
        dtype = _DTYPES[type(number)]
        with node.graph.inserting_before(node):
            wrapped = node.graph.call_function(_scalar_tensor, (number,), {"dtype": dtype})
        wrapped.meta.update(node.meta)
        with mode:
            wrapped.meta["val"] = torch.empty((), dtype=dtype)
        node.update_arg(0, wrapped)
