"""A mixture of experts and a state-space model in JAX: Mixtral and Mamba-2."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from . import transformers
from .phrasings import Phrasing, Take
from .transformers import rotate

EXPERTS, CHOSEN, WIDTH, INNER = 8, 2, 1024, 2048
HEADS, SIZE, STATE, CHUNK = 32, 64, 128, 256


def every_expert(gate_up: Array, down: Array, x: Array, shares: Array, chosen: Array) -> Array:
    """All experts on all [tokens, width], added by their shares, which are zero for most."""
    dense = (jax.nn.one_hot(chosen, EXPERTS, dtype=x.dtype) * shares[..., None]).sum(1)
    gate, up = jnp.split(jnp.einsum("td,edf->tef", x, gate_up), 2, axis=-1)
    return jnp.einsum("tef,efd,te->td", jax.nn.silu(gate) * up, down, dense)


def sorted_tokens(gate_up: Array, down: Array, x: Array, shares: Array, chosen: Array) -> Array:
    """Tokens sorted by their experts, each expert on its own rows."""
    order = jnp.argsort(chosen.reshape(-1))
    counts = jnp.bincount(chosen.reshape(-1), length=EXPERTS)
    gate, up = jnp.split(lax.ragged_dot(x[order // CHOSEN], gate_up, counts), 2, axis=-1)
    y = lax.ragged_dot(jax.nn.silu(gate) * up, down, counts) * shares.reshape(-1)[order][:, None]
    return jnp.zeros_like(x).at[order // CHOSEN].add(y)


MIXTURES = {"every expert": every_expert, "tokens sorted": sorted_tokens}


def mixtral(mixture: str, p: Phrasing, w: Take, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, 32000] logits; two of eight experts for each token."""
    x = w("words", 32000, WIDTH)[tokens]
    for i in range(transformers.LAYERS):
        y = p.rms_norm(w, f"{i}.first", x, 1e-5)
        q = rotate(p.heads(w, f"{i}.q", y, 16, 64, bias=False), 1e6)
        k = rotate(p.heads(w, f"{i}.k", y, 4, 64, bias=False), 1e6)
        mixed = p.attend(q, k, p.heads(w, f"{i}.v", y, 4, 64, bias=False), causal=True)
        x = x + p.merge(w, f"{i}.merge", mixed, WIDTH, bias=False)
        y = p.rms_norm(w, f"{i}.second", x, 1e-5).reshape(-1, WIDTH)
        scores = p.linear(w, f"{i}.router", y, EXPERTS, bias=False)
        shares, chosen = lax.top_k(jax.nn.softmax(scores.astype(jnp.float32), axis=-1), CHOSEN)
        shares = (shares / shares.sum(-1, keepdims=True)).astype(x.dtype)
        gate_up, down = w(f"{i}.gate_up", EXPERTS, WIDTH, 2 * INNER), w(f"{i}.down", EXPERTS, INNER, WIDTH)
        x = x + MIXTURES[mixture](gate_up, down, y, shares, chosen).reshape(x.shape)
    return p.linear(w, "head", p.rms_norm(w, "last", x, 1e-5), 32000, bias=False)


def sums_between(x: Array) -> Array:
    """[..., length] to [..., length, length]: the sum of what lies after the column, up to the row; -inf above."""
    total = jnp.cumsum(x, -1)
    length = x.shape[-1]
    return jnp.where(jnp.tril(jnp.ones((length, length), bool)), total[..., :, None] - total[..., None, :], -jnp.inf)


def scan_states(x: Array, decay: Array, before: Array, after: Array, scanned: bool) -> Array:
    """The recurrence of Mamba-2 in chunks, in float32.

    x: [batch, chunks, chunk, heads, size]. decay: [batch, heads, chunks, chunk], logarithms. before, after: what enters
    states and what is read from them, [batch, chunks, chunk, state]. scanned: whether states go from chunk to chunk in
    a loop, else by one product with all pairs of chunks.
    """
    total = jnp.cumsum(decay, -1)
    scores = jnp.einsum("bcln,bcsn->bcls", after, before)
    inside = jnp.einsum("bcls,bhcls,bcshp->bclhp", scores, jnp.exp(sums_between(decay)), x)
    states = jnp.einsum("bcln,bhcl,bclhp->bchpn", before, jnp.exp(total[..., -1:] - total), x)
    if scanned:
        last = jnp.exp(total[..., -1]).transpose(2, 0, 1)[..., None, None]

        def step(carry: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
            return carry * chunk[0] + chunk[1], carry

        _, entering = lax.scan(step, jnp.zeros_like(states[:, 0]), (last, states.transpose(1, 0, 2, 3, 4)))
        entering = entering.transpose(1, 0, 2, 3, 4)
    else:
        states = jnp.concatenate([jnp.zeros_like(states[:, :1]), states], 1)
        pairs = jnp.exp(sums_between(jnp.pad(total[..., -1], ((0, 0), (0, 0), (1, 0)))))
        entering = jnp.einsum("bhzc,bchpn->bzhpn", pairs, states)[:, :-1]
    return inside + jnp.einsum("bcln,bchpn,bhcl->bclhp", after, entering, jnp.exp(total))


def mamba2(scanned: bool, p: Phrasing, w: Take, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, 32000] logits; 32 heads of 64 and states of 128."""
    inner, (batch, length) = HEADS * SIZE, tokens.shape
    mixed = inner + 2 * STATE
    x = w("words", 32000, WIDTH)[tokens].astype(jnp.float32)
    dtype = w("head.kernel", WIDTH, 32000).dtype
    for i in range(transformers.LAYERS):
        y = p.rms_norm(w, f"{i}.first", x, 1e-5).astype(dtype)
        gate, y, step = jnp.split(
            p.linear(w, f"{i}.in", y, inner + mixed + HEADS, bias=False), (inner, inner + mixed), -1
        )
        y = lax.conv_general_dilated(
            y, w(f"{i}.convolution", 4, 1, mixed), (1,), [(3, 0)],
            dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=mixed,
        )  # fmt: skip
        y = jax.nn.silu(y + w(f"{i}.convolution.bias", mixed)).astype(jnp.float32)
        values, before, after = jnp.split(y, (inner, inner + STATE), -1)
        values = values.reshape(batch, -1, CHUNK, HEADS, SIZE)
        step = jax.nn.softplus(step.astype(jnp.float32) + w(f"{i}.step", HEADS)).reshape(batch, -1, CHUNK, HEADS)
        decay = (-jnp.exp(w(f"{i}.decay", HEADS).astype(jnp.float32)) * step).transpose(0, 3, 1, 2)
        before, after = (part.reshape(batch, -1, CHUNK, STATE) for part in (before, after))
        y = scan_states(values * step[..., None], decay, before, after, scanned)
        y = (y + values * w(f"{i}.skip", HEADS)[:, None]).reshape(batch, length, inner)
        y = p.rms_norm(w, f"{i}.gated", y * jax.nn.silu(gate.astype(jnp.float32)), 1e-5).astype(dtype)
        x = x + p.linear(w, f"{i}.out", y, WIDTH, bias=False)
    return p.linear(w, "head", p.rms_norm(w, "last", x, 1e-5).astype(dtype), 32000, bias=False)
