"""Flexible attention: scores that one graph changes and another masks, entry by entry, and its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax
from jax.custom_batching import custom_vmap
from torch.fx import GraphModule

from ..table import foreign_kernel, higher_order_kernel
from ..target import ANY, Target
from .attention_choice import fused_operands
from .dtypes import wide
from .flex_forms import seen_of
from .fused_attention import fused_attention, fused_gradients, refusal
from .higher_order import run
from .scaled_dot_products import repeated_heads
from .seen_keys import Seen
from .softmax import softmax_with_normaliser
from .unseen_rows import is_unseen

higher_order = torch.ops.higher_order


@higher_order_kernel(higher_order.flex_attention)
def flex_attention(
    query: Array,
    key: Array,
    value: Array,
    score_graph: GraphModule,
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: dict[str, Any],
    score_operands: Sequence[Any] = (),
    mask_operands: Sequence[Any] = (),
    *,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Compute attention whose scores one graph changes and another masks, entry by entry.

    query: [batch, heads, queries, head]; key, value: [batch or 1, key heads, keys, head]. Results: the output, the
    base-2 logarithm of each row's softmax denominator, and each row's largest score over log(2), as PyTorch's own
    kernel returns them. Both graphs are evaluated over all entries at once, which XLA fuses into the scores; but what
    they say of a soft cap and a window is said to the one kernel of attention, where the target wants that.
    """
    fused = _fused(query, key, value, score_graph, block_mask, scale, (*score_operands, *mask_operands), compiled_for)
    key, value = (_for_each_query_head(each, query) for each in (key, value))
    scores = _products(query, key, scale)
    (changed,) = _everywhere(score_graph, scores.shape, [scores], score_operands)
    seen = _seen(block_mask[-1], scores.shape, mask_operands)
    changed = changed if seen is None else jnp.where(seen, changed, -jnp.inf)
    # Nobody computes it for a program that does not read it.
    largest = jnp.max(changed, axis=-1) / math.log(2)
    if fused is not None:
        output, normaliser = fused.attend()
        return output, normaliser / math.log(2), largest
    probabilities, normaliser = softmax_with_normaliser(changed)
    output = jnp.einsum(
        "bhqk,bhkd->bhqd", probabilities.astype(value.dtype), value, preferred_element_type=scores.dtype
    )
    return output.astype(query.dtype), normaliser / math.log(2), largest


@higher_order_kernel(higher_order.flex_attention_backward)
def flex_attention_backward(
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    logsumexp: Array,
    grad_out: Array | None,
    grad_logsumexp: Array | None,
    score_graph: GraphModule,
    joint_graph: GraphModule,
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: dict[str, Any],
    score_operands: Sequence[Any] = (),
    mask_operands: Sequence[Any] = (),
    *,
    compiled_for: Target = ANY,
) -> tuple[Any, ...]:
    """Compute the gradients of query, key, value and of tensors that the scores' graph captures.

    joint_graph: gives the gradients of the arguments of `score_graph`, of whose result it takes the gradient after the
    entry's place. logsumexp: as `flex_attention` gives it. A tensor whose gradient the graph does not give has zeros.
    """
    grad_out = jnp.zeros_like(out) if grad_out is None else grad_out
    captured = (*score_operands, *mask_operands)
    fused = _fused(query, key, value, score_graph, block_mask, scale, captured, compiled_for, backward=True)
    if fused is not None:
        return fused.gradients(grad_out, out, logsumexp * math.log(2), grad_logsumexp)
    keys, values = (_for_each_query_head(each, query) for each in (key, value))
    scores = _products(query, keys, scale)
    (changed,) = _everywhere(score_graph, scores.shape, [scores], score_operands)
    seen = _seen(block_mask[-1], scores.shape, mask_operands)
    changed = changed if seen is None else jnp.where(seen, changed, -jnp.inf)
    normaliser = logsumexp[..., None] * math.log(2)
    probabilities = jnp.where(normaliser == -jnp.inf, 0, jnp.exp(changed - normaliser)).astype(scores.dtype)
    correction = jnp.sum(wide(grad_out) * wide(out), axis=-1, keepdims=True)
    if grad_logsumexp is not None:
        correction = correction - grad_logsumexp[..., None] / math.log(2)

    def product(pattern: str, left: Array, right: Array) -> Array:
        return jnp.einsum(pattern, left, right, preferred_element_type=scores.dtype)

    grad_value = product("bhqk,bhqd->bhkd", probabilities.astype(query.dtype), grad_out)
    grad_changed = probabilities * (product("bhqd,bhkd->bhqk", grad_out, values) - correction)
    grad_scores, *captured = _everywhere(joint_graph, scores.shape, [scores], score_operands, [grad_changed])
    grad_scores = grad_scores if seen is None else jnp.where(seen, grad_scores, 0)
    grad_scores = (grad_scores * scale).astype(query.dtype)
    grad_query = product("bhqk,bhkd->bhqd", grad_scores, keys)
    grad_key = product("bhqk,bhqd->bhkd", grad_scores, query)
    given = [each for each in score_operands if isinstance(each, jax.Array)]
    zeros = (jnp.zeros_like(each) if grad is None else grad for each, grad in zip(given, captured[4:], strict=False))
    return grad_query, _of_key_heads(grad_key, key), _of_key_heads(grad_value, value), *zeros


class _Fused(NamedTuple):
    """The operands of one kernel for flexible attention; key, value: [batch, key heads, keys, head]."""

    query: Array
    key: Array
    value: Array
    seen: Seen
    scale: float
    precision: str
    interpret: bool
    given: tuple[Array, Array]

    def attend(self) -> tuple[Array, Array]:
        """Return the output, zero in a row that sees nothing, and the log of each denominator, -inf there."""
        out, normaliser = fused_attention(*self[:-1])
        if self.seen.unseen == "zero":
            return out, normaliser
        unseen = is_unseen(normaliser)
        return jnp.where(unseen[..., None], 0, out), jnp.where(unseen, -jnp.inf, normaliser)

    def gradients(
        self, grad_out: Array, out: Array, normaliser: Array, grad_logsumexp: Array | None
    ) -> tuple[Array, Array, Array]:
        """Return the gradients of query, key and value as they were given."""
        normaliser = jnp.where(normaliser == -jnp.inf, 0, normaliser)
        of_normaliser = None if grad_logsumexp is None else grad_logsumexp / math.log(2)
        operands = (self.query, self.key, self.value, out, normaliser, self.seen._replace(unseen="zero"))
        more = (self.scale, self.precision, self.interpret, of_normaliser)
        of_query, *others = fused_gradients(grad_out, *operands, *more)
        return of_query, *(_of_key_heads(each, like) for each, like in zip(others, self.given, strict=True))  # pyright: ignore[reportReturnType]


def _fused(
    query: Array,
    key: Array,
    value: Array,
    score_graph: GraphModule,
    block_mask: Sequence[Any],
    scale: float,
    captured: Sequence[Any],
    target: Target,
    backward: bool = False,
) -> _Fused | None:
    """Return the operands of one kernel; None where attention is to be plain, or the graphs say more than it knows."""
    if target.attention == "plain" or (target.attention == "auto" and target.platform != "tpu"):
        return None
    shape = (*query.shape[:-1], key.shape[-2])
    found: Any = seen_of(score_graph, block_mask[-1], shape, captured)
    keys, values = (jnp.broadcast_to(each, (query.shape[0], *each.shape[1:])) for each in (key, value))
    if found is None or refusal(query, keys, values, None) is not None:
        return None
    operands = fused_operands(query, keys, values, None, False, target, found[0], backward)
    if operands is None:
        return None
    precision = target.kernel_precision(query.dtype)
    return _Fused(query, *operands, scale * found[1], precision, target.platform != "tpu", (key, value))


def _for_each_query_head(x: Array, query: Array) -> Array:
    """Return keys or values with the batches and heads of the query."""
    x = repeated_heads(x, query.shape[1])
    return jnp.broadcast_to(x, (query.shape[0], *x.shape[1:]))


def _of_key_heads(gradient: Array, like: Array) -> Array:
    """Add up gradients of keys or values over what `_for_each_query_head` repeated."""
    batch, heads = like.shape[:2]
    gradient = gradient.reshape(batch, -1, heads, gradient.shape[1] // heads, *gradient.shape[2:])
    return jnp.sum(gradient, axis=(1, 3))


def _products(query: Array, key: Array, scale: float) -> Array:
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=dtype) * scale


def _seen(graph: Any, shape: tuple[int, ...], operands: Sequence[Any]) -> Array | None:
    return _everywhere(graph, shape, [], operands)[0] if isinstance(graph, GraphModule) else None


def _everywhere(
    graph: GraphModule,
    shape: tuple[int, ...],
    before: Sequence[Array],
    operands: Sequence[Any],
    after: Sequence[Array] = (),
) -> list[Any]:
    """Run a graph of scalars at each entry of `shape`: on entries, their places, other entries, and whole operands.

    Its first result has an entry of its own for each; the others are the same everywhere, as the sums that
    `zeros_and_scatter` gives, and None where the graph has none.
    """
    places = [lax.broadcasted_iota(jnp.int32, shape, d) for d in range(4)]
    entries = [each.reshape(-1) for each in (*before, *places, *after)]
    (results,) = graph.graph.output_node().args
    given = [each is not None for each in results] if isinstance(results, list | tuple) else [True]

    def scalars(*entry: Array) -> list[Array]:
        return [each for each in run(graph, *entry, *operands) if each is not None]

    found = iter(jax.vmap(scalars, out_axes=[0] + [None] * (sum(given) - 1))(*entries))
    first = next(found).reshape(shape)
    return [first, *(next(found) if each else None for each in given[1:])]


@foreign_kernel("flex_lib::zeros_and_scatter")
def zeros_and_scatter(shape: Sequence[int], indices: Sequence[Array], vals: Array) -> Array:
    """Add values at places of an array of zeros; for many entries at once, those of all to one array."""

    def scatter(indices: Sequence[Array], vals: Array) -> Array:
        return jnp.zeros(tuple(shape), vals.dtype).at[tuple(indices)].add(vals)

    scattered = custom_vmap(scatter)

    @scattered.def_vmap
    def of_all(size: int, batched: Any, indices: Sequence[Array], vals: Array) -> tuple[Array, bool]:
        everywhere = [
            each if along else jnp.broadcast_to(each, (size, *each.shape))
            for each, along in zip((*indices, vals), (*batched[0], batched[1]), strict=True)
        ]
        return scatter(everywhere[:-1], everywhere[-1]), False

    return scattered(list(indices), vals)
