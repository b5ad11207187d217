"""`tpu_dynamo.jax_op`: a JAX or Pallas function as an operator of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._torch_compat import OpOverload
from .jax_operator import JaxOperator
from .operator_schema import schema_of


def jax_op(
    name: str,
    *,
    schema: str | None = None,
    differentiable: bool = True,
    gradient: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], OpOverload]:
    """Make an operator of PyTorch of a JAX function, which may call Pallas kernels; return it in the function's place.

    name: as `mylib::rope`. schema: as `(Tensor x, int n=1) -> (Tensor, Tensor)`; by default that of the annotations:
    arrays, lists of arrays, and numbers, strings and dtypes, which are Python values in the function. Results have the
    shapes and dtypes that JAX gives them; arrays of 64 bits stay exact, and what the function makes itself has JAX's
    default types, of 32 bits. Pallas kernels are compiled for a TPU and interpreted on a CPU.

    differentiable: by `jax.vjp`, which knows the rules of `jax.custom_vjp`, and as often as one likes. gradient: a JAX
    function that gives the gradients instead; it takes the arguments, and by name `results`, a list, and `gradients`,
    those of the results of floating or complex type; it returns one gradient, or None, for each tensor argument. Under
    torch.func.vmap the function runs under `jax.vmap`.

    A second operator of the same name takes the place of the first; graphs that were compiled before keep that. Raises
    TypeError for a signature that no schema says.
    """
    namespace, _, operator = name.partition("::")
    if not namespace.isidentifier() or not operator.isidentifier() or namespace in ("aten", "prims"):
        raise TypeError(f"{name!r} is no name of an operator of your own, as in mylib::rope")

    def define(function: Callable[..., Any]) -> OpOverload:
        made = JaxOperator(name, schema or schema_of(function), function)
        if differentiable or gradient is not None:
            made.differentiate(gradient)
            # Now, so that other processes know it, too, when they find a backward graph in the cache.
            assert made.gradient.overload
        return made.overload

    return define
