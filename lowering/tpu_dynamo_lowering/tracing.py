"""Tracing functions of tensors, with our definitions of the operators that torch takes apart wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import GraphModule

from . import outside
from ._torch_compat import FakeTensorMode, defining, functional_graph
from .table import BEFORE_AUTOGRAD
from .writing_operators._torch_compat import kept_whole


@contextmanager
def own_definitions() -> Iterator[None]:
    """Trace in this context what autograd or AOTAutograd sees."""
    with defining(BEFORE_AUTOGRAD), kept_whole(lambda operator: outside.find(operator) is not None):
        yield


def traced(function: Callable[..., Any], tensors: list[torch.Tensor], mode: FakeTensorMode) -> GraphModule:
    """Trace `function(*tensors)` on fake tensors of `mode` into an ATen graph without in-place operators."""
    with own_definitions():
        return functional_graph(function, tensors, mode)
