"""Higher-order operators that hold an operator and no graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._torch_compat import OpOverload, pytree
from ..table import higher_order_rewrites

aten = torch.ops.aten


@higher_order_rewrites(torch.ops.higher_order.out_dtype)
def out_dtype(op: OpOverload, output_dtype: torch.dtype, *args: Any) -> Tensor:
    """Apply an operator in the dtype that `output_dtype` and its arguments promote to; cast the result to the former.

    Source: `out_dtype_fallback` in torch/_higher_order_ops/out_dtype.py.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
    if op is aten.mm.default and output_dtype == torch.int32 and all(t.dtype == torch.int8 for t in tensors):
        return aten._int_mm.default(*args)
    dtype = output_dtype
    for leaf in pytree.tree_leaves(args):
        if isinstance(leaf, Tensor | bool | int | float | complex):
            dtype = torch.result_type(torch.empty(1, dtype=dtype, device="meta"), _stand_in(leaf))
    result = op(*pytree.tree_map_only(Tensor, lambda tensor: tensor.to(dtype), args))
    return result.to(output_dtype)


def _stand_in(leaf: Any) -> Any:
    return torch.empty((1,) * leaf.ndim, dtype=leaf.dtype, device="meta") if isinstance(leaf, Tensor) else leaf
