"""Calls of Pallas kernels: with an estimate of ours, and with operands that stay in main memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.experimental import pallas
from jax.experimental.pallas import tpu
from jax.extend.core import Literal, jaxpr_as_fun


def estimated(
    figures: tuple[int, int, int], function: Callable[..., Any], held: Sequence[int] = ()
) -> Callable[..., Any]:
    """Return `function` with an estimate of ours in its kernel: flops, transcendentals and bytes accessed.

    held: the numbers of the kernel's operands that stay in main memory, where XLA would fetch them whole.
    """
    estimate = pallas.CostEstimate(*figures)

    def call(*operands: Any) -> Any:
        # Pallas takes neither 64-bit numbers nor, for grids, anything but int32.
        with jax.enable_x64(False):
            leaves, structure = jax.tree.flatten(operands)
            shapes: list[Any] = []

            def flat(*given: Array) -> list[Array]:
                results, shape = jax.tree.flatten(function(*jax.tree.unflatten(structure, given)))
                shapes.append(shape)
                return results

            closed = jax.make_jaxpr(flat)(*leaves)
            equations = [
                each.replace(params={**each.params, "cost_estimate": estimate})
                if each.primitive.name == "pallas_call"
                else each
                for each in closed.jaxpr.eqns
            ]
            assert sum(each.primitive.name == "pallas_call" for each in equations) == 1, closed
            counted = closed.replace(jaxpr=closed.jaxpr.replace(eqns=equations))
            if held:
                counted = jax.make_jaxpr(lambda *given: _holding(counted, held, given))(*leaves)
            return jax.tree.unflatten(shapes[0], jaxpr_as_fun(counted)(*leaves))

    return call


def _holding(closed: Any, held: Sequence[int], operands: Sequence[Array]) -> list[Any]:
    """Evaluate a jaxpr, with the kernel's operands of some numbers kept in main memory."""
    values = dict(zip((*closed.jaxpr.constvars, *closed.jaxpr.invars), (*closed.consts, *operands), strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for each in closed.jaxpr.eqns:
        given = [value(atom) for atom in each.invars]
        if each.primitive.name == "pallas_call":
            for number in held:
                given[number] = tpu.with_memory_space_constraint(given[number], tpu.HBM)
        found = each.primitive.bind(*given, **each.params)
        values.update(zip(each.outvars, found if each.primitive.multiple_results else [found], strict=True))
    return [value(atom) for atom in closed.jaxpr.outvars]
