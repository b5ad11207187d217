"""Tracing functions of tensors, with our definitions of the operators that torch takes apart wrongly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.fx import GraphModule

from ._torch_compat import FakeTensorMode, defining, functional_graph
from .table import BEFORE_AUTOGRAD


def own_definitions() -> AbstractContextManager[None]:
    """Trace in this context what autograd or AOTAutograd sees."""
    return defining(BEFORE_AUTOGRAD)


def traced(function: Callable[..., Any], tensors: list[torch.Tensor], mode: FakeTensorMode) -> GraphModule:
    """Trace `function(*tensors)` on fake tensors of `mode` into an ATen graph without in-place operators."""
    with own_definitions():
        return functional_graph(function, tensors, mode)
