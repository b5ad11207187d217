"""Graphs for the tests of lowering: what AOTAutograd would give for a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def traced(function: Callable[..., Any], *args: torch.Tensor, symbolic: bool = False) -> GraphModule:
    """The ATen graph of `function(*args)`, with fake tensors in its metadata; its output is always a tuple."""

    def as_tuple(*inputs: torch.Tensor) -> tuple[Any, ...]:
        result = function(*inputs)
        return tuple(result) if isinstance(result, tuple | list) else (result,)

    if symbolic:
        return make_fx(as_tuple, tracing_mode="symbolic")(*args)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        return make_fx(as_tuple)(*(mode.from_tensor(arg) for arg in args))
