"""Programs of JAX's for the tests of counting, lowered for a TPU: prints them as JSON, each in base 64."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from tpu_dynamo_lowering import jax_compat


def attention(q: Array, k: Array, v: Array) -> Array:
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), v)


def kernel(estimate: pl.CostEstimate | None) -> Callable[[Array], Array]:
    """A function that doubles numbers in a kernel of its own."""

    def double(x: Any, y: Any) -> None:
        y[...] = x[...] * 2

    shape = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    return lambda x: pl.pallas_call(double, out_shape=shape, cost_estimate=estimate)(x)


def exponentials(x: Array) -> Array:
    for _ in range(64):
        x = jnp.exp(x)
    return x


def arrays(count: int, shape: tuple[int, ...], dtype: Any) -> list[Any]:
    return [jax.ShapeDtypeStruct(shape, dtype)] * count


PROGRAMS = {
    "attention": (attention, arrays(3, (4, 12, 512, 64), jnp.bfloat16)),
    "kernel": (kernel(None), arrays(1, (512, 512), jnp.float32)),
    "estimated kernel": (
        kernel(pl.CostEstimate(flops=10**9, transcendentals=5, bytes_accessed=2**21)),
        arrays(1, (512, 512), jnp.float32),
    ),
    "product": (jnp.matmul, arrays(2, (8192, 8192), jnp.bfloat16)),
    "copy": (lambda x: x * 2, arrays(1, (8192, 16384), jnp.float32)),
    "exponentials": (exponentials, arrays(1, (4096, 4096), jnp.float32)),
}


def main() -> None:
    """Lower and print."""
    lowered = {
        name: jax_compat.to_bytecode(
            jax.jit(function).trace(*given).lower(lowering_platforms=("tpu",)).compiler_ir("stablehlo")
        )
        for name, (function, given) in PROGRAMS.items()
    }
    print(json.dumps({name: base64.b64encode(program).decode() for name, program in lowered.items()}))


if __name__ == "__main__":
    main()
