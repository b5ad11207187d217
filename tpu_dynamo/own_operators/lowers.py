"""`tpu_dynamo.lowers`: a lowering for an operator of another library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from tpu_dynamo_lowering import How, JaxFunction, register_lowering

from .._torch_compat import OpOverload
from .jax_writes import jax_writes, writes
from .on_device import run_by_lowering

F = TypeVar("F", bound=Callable[..., Any])


def lowers(overload: OpOverload, *, language: Literal["torch", "jax"] = "torch") -> Callable[[F], F]:
    """Register a function that says what an operator of `torch.library` computes, for compiled graphs and the device.

    overload: as `torch.ops.mylib.op.default`, not one of ATen's. language: `torch` for a function of tensors, which
    is traced and may use all operators that have a lowering; `jax` for a function of arrays. The parameters are the
    schema's, by name and default; the results have the operator's shapes and dtypes, as its fake kernel gives them. Of
    an operator that writes to its arguments, a function of tensors writes to them too, and a function of arrays returns
    the results and behind them the new values of the written arguments, in the schema's order. Gradients
    are the operator's own matter (`torch.library.register_autograd`). The function's code is part of the keys of the
    cache. Raises TypeError for other parameters, and for an operator that has a lowering already.
    """
    if language not in ("torch", "jax"):
        raise TypeError(f"language={language!r}: a lowering is written in 'torch' or in 'jax'")

    def enter(function: F) -> F:
        if language == "torch":
            register_lowering(overload, How.REWRITE, function, signed=function)
        elif writes(overload):
            register_lowering(overload, How.REWRITE, jax_writes(overload, function), signed=function)
        else:
            register_lowering(overload, How.KERNEL, JaxFunction(function), signed=function)
        run_by_lowering(overload)
        return function

    return enter
