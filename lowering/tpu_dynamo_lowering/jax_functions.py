"""Users' JAX functions as kernels: how they are called, and the functions that are derived from them.

They are traced with JAX's default settings, except that arrays of 64 bits keep their type: what PyTorch passes stays
exact, and `jnp.arange(8) / 8` is float32, as where the function was written. A call with a float64 or complex128 is
traced in JAX's mode of 64 bits, since JAX differentiates such arrays only there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from ._torch_compat import pytree
from .jax_compat import plain_settings
from .kernels.dtypes import jax_dtype

_DOUBLE = (np.dtype(np.float64), np.dtype(np.complex128))


@dataclass(frozen=True)
class JaxFunction:
    """A JAX function that takes an operator's arguments: arrays, lists of arrays, and Python values."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with JAX's default settings; dtypes among the arguments are JAX's."""
        args, kwargs = pytree.tree_map_only(torch.dtype, jax_dtype, (args, kwargs))
        arrays = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Array)]
        with jax.enable_x64(True) if any(each.dtype in _DOUBLE for each in arrays) else plain_settings():
            return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Signature:
    """The names of a function's parameters, in their order; those in `by_keyword` are passed by name."""

    names: tuple[str, ...]
    by_keyword: frozenset[str]

    def call(self, function: Callable[..., Any], arguments: Sequence[Any], **more: Any) -> Any:
        """Call a function with these parameters, and with `more`."""
        named = dict(zip(self.names, arguments, strict=True))
        positional = [value for name, value in named.items() if name not in self.by_keyword]
        return function(*positional, **{name: named[name] for name in named if name in self.by_keyword}, **more)


@dataclass(frozen=True)
class Gradient:
    """A function's gradients, by `jax.vjp`; those of complex numbers are PyTorch's, the conjugates of JAX's."""

    function: Callable[..., Any]
    signature: Signature

    def __call__(self, *given: Any) -> list[Array]:
        """Return the gradients of those of the argument's arrays, side by side, that `wanted` names.

        given: the arguments; the gradients of the results of floating or complex type; `wanted`.
        """
        *arguments, gradients, wanted = given
        leaves, structure = pytree.tree_flatten(arguments)
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Array)]
        moving = [places[i] for i in wanted]

        def results(*chosen: Array) -> list[Array]:
            mixed = list(leaves)
            for place, array in zip(moving, chosen, strict=True):
                mixed[place] = array
            found = self.signature.call(self.function, pytree.tree_unflatten(mixed, structure))
            return [jnp.asarray(each) for each in jax.tree.leaves(found)]

        values, pull = jax.vjp(results, *(leaves[i] for i in moving))
        of_results = iter(gradients)
        cotangents = [
            jnp.conj(next(of_results)).astype(value.dtype)
            if jnp.issubdtype(value.dtype, jnp.inexact)
            else np.zeros(value.shape, jax.dtypes.float0)
            for value in values
        ]
        return [jnp.conj(each) for each in pull(cotangents)]


@dataclass(frozen=True)
class GivenGradient:
    """A rule for a function's gradients that its author gives.

    rule: takes the operator's arguments, and by name `results`, all of them, and `gradients`, of the results of
    floating or complex type; returns a gradient, or None, for each array among the arguments.
    """

    rule: Callable[..., Any]
    signature: Signature

    def __call__(self, *given: Any) -> list[Array]:
        """Return the gradients of the arrays that `wanted` names, the last argument; `results` stand before it."""
        *arguments, gradients, results, wanted = given
        arrays = [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Array)]
        found = self.signature.call(self.rule, arguments, results=results, gradients=gradients)
        found = list(found) if isinstance(found, tuple | list) else [found]
        if len(found) != len(arrays):
            raise ValueError(f"the rule gives {len(found)} gradients, and the operator takes {len(arrays)} tensors")
        return [jnp.zeros_like(arrays[i]) if found[i] is None else found[i] for i in wanted]


@dataclass(frozen=True)
class Batched:
    """A function over a batch, by `jax.vmap`."""

    function: Callable[..., Any]
    signature: Signature

    def __call__(self, *given: Any) -> Any:
        """Return results with the batch in front. given: the arguments; the arrays that have a batch; its size."""
        *arguments, batched, size = given
        leaves, structure = pytree.tree_flatten(arguments)
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Array)]
        axes = [0 if i in batched else None for i in range(len(places))]

        def one(*arrays: Array) -> Any:
            mixed = list(leaves)
            for place, array in zip(places, arrays, strict=True):
                mixed[place] = array
            return self.signature.call(self.function, pytree.tree_unflatten(mixed, structure))

        return jax.vmap(one, axes, axis_size=size)(*(leaves[i] for i in places))


def result_types(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Any, list[jax.ShapeDtypeStruct]]:
    """Return the structure and the types of a function's results; nothing is computed.

    args, kwargs: `jax.ShapeDtypeStruct` for arrays, which may have symbolic sizes.
    """
    leaves, structure = pytree.tree_flatten((list(args), kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]

    def call(*arrays: Array) -> Any:
        mixed = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            mixed[place] = array
        given, named = pytree.tree_unflatten(mixed, structure)
        return function(*given, **named)

    # Of 64 bits, so that arguments keep their types; the function sees its own settings.
    with jax.enable_x64(True):
        results = jax.eval_shape(call, *(leaves[i] for i in places))
    types, tree = jax.tree.flatten(results)
    return tree, types
