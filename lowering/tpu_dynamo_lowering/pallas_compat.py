"""The door of lowering to Pallas: JAX's own kernels, and what a kernel's bytecode holds."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec, module_from_spec
from inspect import unwrap
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.pallas.ops.tpu.megablox import common
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info
from jaxlib.mlir import ir, passmanager
from jaxlib.mosaic.python import tpu

from .jax_compat import new_context, operations, parse
from .pallas_calls import estimated

# The score of what a mask hides, and what no score of finite operands comes near.
HIDDEN = splash.DEFAULT_MASK_VALUE

_CALL = "tpu_custom_call"
# Where a kernel of attention has them: behind the two arrays of its schedule and the queries.
_KEYS_AND_VALUES = (3, 4)


class Schedule(NamedTuple):
    """The blocks of keys that a kernel visits for each block of queries, or the other way round.

    blocks: int[rows, width], or [width, rows] for gradients of keys: the number of the block that comes at each step.
    runs: whether a step computes anything; rows have as many steps as the longest.
    """

    blocks: np.ndarray | Array
    runs: np.ndarray | Array


class Kernel(NamedTuple):
    """One way to run an attention kernel: its blocks, its mask and its estimate.

    block_q, block_kv: the sizes of blocks. sees: takes numbers of queries and of keys; None where all is seen. cap: of
    scores, by tanh. estimate: flops, transcendentals and bytes accessed. interpret: without a TPU.
    """

    block_q: int
    block_kv: int
    schedule: Schedule
    sees: Callable[[Array, Array], Array] | None
    cap: float | None
    estimate: tuple[int, int, int]
    interpret: bool

    def mask(self, queries: int) -> Any:
        """Return the mask as the kernels of JAX want it."""
        blocks, runs = (jnp.asarray(each)[None] for each in self.schedule)
        numbers = None if self.sees is None else jnp.arange(queries, dtype=jnp.int32)
        return mask_info.MaskInfo(blocks, None, runs.astype(jnp.int8), None, numbers)  # pyright: ignore


def forward(
    kernel: Kernel, query: Array, key: Array, value: Array, segments: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """Compute attention without a scale, and the log of each softmax denominator.

    query: [heads, queries, features]; key, value: [key heads, keys, features]; segments: int32[queries], int32[keys].
    Source: `jax.experimental.pallas.ops.tpu.splash_attention`.
    """

    def call(query: Array, key: Array, value: Array, segments: tuple[Array, Array] | None) -> tuple[Array, Array]:
        out, (normaliser,) = splash._splash_attention_forward(
            kernel.mask(query.shape[1]),
            query,
            key,
            value,
            None if segments is None else splash.SegmentIds(*segments),
            None,
            HIDDEN,
            False,
            splash.BlockSizes(block_q=kernel.block_q, block_kv=kernel.block_kv),
            None,
            True,
            kernel.sees,
            kernel.cap,
            kernel.interpret,
        )
        return out, normaliser

    return estimated(kernel.estimate, call)(query, key, value, segments)


def read_cache(kernel: Kernel, query: Array, key: Array, value: Array, shown: Array) -> tuple[Array, Array]:
    """Compute attention of each batch to the keys that are shown, as `forward` does.

    query: [batch, heads, queries, features]; key, value: [batch, heads, keys, features]; shown: int32[batch, keys], 1
    for a key that is seen. Keys whose features fill no whole registers are taken with their last two dimensions
    exchanged, as XLA keeps them: else it would copy them all.
    """
    layouts = {True: splash.QKVLayout.HEAD_DIM_MINOR, False: splash.QKVLayout.SEQ_MINOR}
    of_keys, of_values = (layouts[each.shape[-1] % splash.NUM_LANES == 0] for each in (key, value))
    sizes = splash.BlockSizes(kernel.block_q, kernel.block_kv, k_layout=of_keys, v_layout=of_values)

    def call(query: Array, key: Array, value: Array, shown: Array, *schedule: Array) -> tuple[Array, Array]:
        mask = kernel._replace(schedule=Schedule(*schedule)).mask(query.shape[2])

        def of_batch(query: Array, key: Array, value: Array, shown: Array) -> tuple[Array, Array]:
            segments = splash.SegmentIds(jnp.ones(query.shape[1], jnp.int32), shown)
            given = (query, key, value, segments, None, HIDDEN, False, sizes, None, True, None, kernel.cap)
            out, (normaliser,) = splash._splash_attention_forward(mask, *given, kernel.interpret)
            return out, normaliser

        return jax.vmap(of_batch)(query, key, value, shown)

    held = () if kernel.interpret else _KEYS_AND_VALUES
    return estimated(kernel.estimate, call, held)(query, key, value, shown, *kernel.schedule)


def query_gradient(kernel: Kernel, *operands: Any) -> Array:
    """Compute the gradient of the query. operands: as for `key_gradients`."""
    backward = splash._splash_attention_bwd_dq
    return estimated(kernel.estimate, lambda *given: _backward(kernel, backward, {}, *given))(*operands)


def key_gradients(kernel: Kernel, *operands: Any) -> tuple[Array, Array]:
    """Compute the gradients of keys and values.

    operands: query, key, value and segments as for `forward`; the log of each denominator, the output's gradient, and
    the sum of output times gradient of each query.
    """
    more = {"bkv_compute": kernel.block_kv, "use_fused_bwd_kernel": False}
    backward = splash._splash_attention_bwd_dkv
    return estimated(kernel.estimate, lambda *given: _backward(kernel, backward, more, *given)[1:])(*operands)


def _backward(kernel: Kernel, function: Callable[..., Any], more: dict[str, Any], *operands: Any) -> Any:
    query, key, value, segments, normaliser, gradient, correction = operands
    layout = splash.QKVLayout.HEAD_DIM_MINOR
    return function(
        query,
        key,
        value,
        None if segments is None else splash.SegmentIds(*segments),
        None,
        normaliser,
        gradient,
        correction,
        bq=kernel.block_q,
        bkv=kernel.block_kv,
        is_mqa=False,
        mask_info=kernel.mask(query.shape[1]),
        mask_value=HIDDEN,
        attn_logits_soft_cap=kernel.cap,
        q_layout=layout,
        k_layout=layout,
        v_layout=layout,
        mask_function=kernel.sees,
        interpret=kernel.interpret,
        **more,
    )


class Grouped(NamedTuple):
    """One way to run a kernel of products by group.

    tiles: of rows and of both dimensions of a matrix. transposed: whether matrices are [groups, N, K]. dtype: of the
    result. estimate: flops, transcendentals and bytes accessed. interpret: without a TPU.
    """

    tiles: tuple[int, int, int]
    transposed: bool
    dtype: Any
    estimate: tuple[int, int, int]
    interpret: bool


@lru_cache(maxsize=1)
def _megablox() -> Any:
    """Return the module of megablox's kernels, a copy of our own that asks no device what it can multiply.

    JAX's starts all its backends for that, libtpu as well, in a process whose chips belong to our client.
    """
    spec: Any = find_spec("jax.experimental.pallas.ops.tpu.megablox.gmm")
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.common = SimpleNamespace(
        assert_is_supported_dtype=common.assert_is_supported_dtype, select_input_dtype=_multiplied_as
    )
    return module


def _multiplied_as(left: Array, right: Array) -> Any:
    """Return the dtype of a kernel's products: TPUs from v4 on, all that there are targets of, multiply bfloat16."""
    return jnp.bfloat16 if left.dtype == right.dtype == jnp.bfloat16 else jnp.float32


def multiply_rows(kernel: Grouped, rows: Array, matrices: Array, sizes: Array) -> Array:
    """Multiply rows [S, K], sorted by group, by the matrices of their groups; rows past the last group are undefined.

    S is a multiple of the tile. sizes: int32[groups], of rows. Source: `jax.experimental.pallas.ops.tpu.megablox`.
    """

    def call(rows: Array, matrices: Array, sizes: Array) -> Array:
        given = {"transpose_rhs": kernel.transposed, "interpret": kernel.interpret}
        return unwrap(_megablox().gmm)(rows, matrices, sizes, kernel.dtype, kernel.tiles, **given)

    return estimated(kernel.estimate, call)(rows, matrices, sizes)


def multiply_groups(kernel: Grouped, left: Array, right: Array, sizes: Array) -> Array:
    """Multiply the transpose of [S, K] and [S, N], for each group over its own rows, to [groups, K, N]."""

    def call(left: Array, right: Array, sizes: Array) -> Array:
        return unwrap(_megablox().tgmm)(left.T, right, sizes, kernel.dtype, kernel.tiles, interpret=kernel.interpret)

    return estimated(kernel.estimate, call)(left, right, sizes)


def strip_kernels(module: ir.Module) -> None:
    """Take source locations out of the bytecode of a module's Mosaic kernels, in place.

    They name the files of the kernel's code, so that a program would depend on where a package lies.
    """
    for operation in operations(module):
        if operation.operation.name != "stablehlo.custom_call":
            continue
        if ir.StringAttr(operation.attributes["call_target_name"]).value != _CALL:
            continue
        config = json.loads(ir.StringAttr(operation.attributes["backend_config"]).value)
        kernel = config["custom_call_config"]
        kernel["body"] = base64.b64encode(_without_locations(base64.b64decode(kernel["body"]))).decode()
        with module.context:
            operation.attributes["backend_config"] = ir.StringAttr.get(json.dumps(config))


def _without_locations(bytecode: bytes) -> bytes:
    context = new_context()
    tpu.register_dialect(context)
    context.allow_unregistered_dialects = True  # the serialised form has names of its own
    module = parse(bytecode, context)
    with context:
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
    sink = io.BytesIO()
    module.operation.write_bytecode(sink, desired_version=0)  # as JAX writes it
    return sink.getvalue()
