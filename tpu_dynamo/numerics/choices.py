"""Operators that choose among equal elements: PyTorch says which values they find, not where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from tpu_dynamo_lowering import Operator

from .._torch_compat import OpOverload
from .reference import Values

aten = torch.ops.aten

# By operator, the dimension that it goes along where a call says none; None for all elements.
_CHOOSING: Mapping[Any, int | None] = {
    aten.sort.default: -1, aten.argsort.default: -1, aten.topk.default: -1, aten.kthvalue.default: -1,
    aten.mode.default: -1, aten.median.dim: None, aten.nanmedian.dim: None, aten.max.dim: None, aten.min.dim: None,
    aten.argmax.default: None, aten.argmin.default: None,
}  # fmt: skip


def chose_equally(operator: Operator, values: Mapping[Node, Any], ours: Values, eager: Values) -> bool:
    """Tell whether an operator's indices differ from eager's only in which of several equal elements they name.

    values: eager's, of what it reads.
    """
    target, source = operator.node.target, operator.node.args[0]
    if not isinstance(target, OpOverload) or target not in _CHOOSING or source not in values:
        return False
    given = values[source]  # pyright: ignore[reportArgumentType]
    named = dict(zip((argument.name for argument in target._schema.arguments), operator.node.args, strict=False))
    named |= operator.node.kwargs
    dim = named.get("dim", _CHOOSING[target])
    for node, found in ours.items():
        if not torch.equal(found, eager[node]) and not (
            found.dtype == torch.int64 and _same_elements(given, found, eager[node], dim, bool(named.get("keepdim")))
        ):
            return False
    return True


def _same_elements(given: torch.Tensor, ours: torch.Tensor, eager: torch.Tensor, dim: Any, keepdim: bool) -> bool:
    if dim is None:
        return bool(((ours >= 0) & (ours < given.numel())).all()) and torch.equal(
            given.reshape(-1)[ours.reshape(-1)], given.reshape(-1)[eager.reshape(-1)]
        )
    if ours.ndim < given.ndim and not keepdim:
        ours, eager = ours.unsqueeze(dim), eager.unsqueeze(dim)
    if not bool(((ours >= 0) & (ours < given.shape[dim])).all()):
        return False
    unique = ours.sort(dim).values.diff(dim=dim)
    return bool((unique != 0).all()) and torch.equal(given.gather(dim, ours), given.gather(dim, eager))
