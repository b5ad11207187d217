"""Transformers in JAX: GPT-2, Llama, BERT and ViT, with the sizes of the published models and few layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from .phrasings import Phrasing, Take

LAYERS = 4


def gelu_mlp(p: Phrasing, w: Take, name: str, x: Array, inner: int, approximate: bool) -> Array:
    y = jax.nn.gelu(p.linear(w, f"{name}.in", x, inner), approximate=approximate)
    return p.linear(w, f"{name}.out", y, x.shape[-1])


def self_attention(p: Phrasing, w: Take, name: str, x: Array, heads: int, causal: bool = False) -> Array:
    size = x.shape[-1] // heads
    q, k, v = (p.heads(w, f"{name}.{part}", x, heads, size) for part in "qkv")
    return p.merge(w, f"{name}.merge", p.attend(q, k, v, causal), x.shape[-1])


def gpt2(p: Phrasing, w: Take, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, 50257] logits; the head is tied."""
    words = w("words", 50257, 768)
    x = words[tokens] + w("places", 1024, 768)[: tokens.shape[1]]
    for i in range(LAYERS):
        x = x + self_attention(p, w, f"{i}.attention", p.norm(w, f"{i}.first", x, 1e-5), 12, causal=True)
        x = x + gelu_mlp(p, w, f"{i}.mlp", p.norm(w, f"{i}.second", x, 1e-5), 3072, approximate=True)
    return p.norm(w, "last", x, 1e-5) @ words.T


def rotate(x: Array, base: float = 10000.0) -> Array:
    """Turn the halves of [batch, length, heads, size] by angles that grow with the position."""
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] * base ** (-jnp.arange(half) / half)
    cos, sin = (f(angles).astype(x.dtype)[:, None] for f in (jnp.cos, jnp.sin))
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def llama(p: Phrasing, w: Take, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, 32000] logits: width 2048, 32 heads of queries, 4 of keys."""
    x = w("words", 32000, 2048)[tokens]
    for i in range(LAYERS):
        y = p.rms_norm(w, f"{i}.first", x, 1e-6)
        q = rotate(p.heads(w, f"{i}.q", y, 32, 64, bias=False))
        k = rotate(p.heads(w, f"{i}.k", y, 4, 64, bias=False))
        mixed = p.attend(q, k, p.heads(w, f"{i}.v", y, 4, 64, bias=False), causal=True)
        x = x + p.merge(w, f"{i}.merge", mixed, 2048, bias=False)
        y = p.rms_norm(w, f"{i}.second", x, 1e-6)
        gate = jax.nn.silu(p.linear(w, f"{i}.gate", y, 5632, bias=False))
        x = x + p.linear(w, f"{i}.down", gate * p.linear(w, f"{i}.up", y, 5632, bias=False), 2048, bias=False)
    return p.linear(w, "head", p.rms_norm(w, "last", x, 1e-6), 32000, bias=False)


def bert(p: Phrasing, w: Take, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, 768] features."""
    x = w("words", 30522, 768)[tokens] + w("places", 512, 768)[: tokens.shape[1]] + w("types", 2, 768)[0]
    x = p.norm(w, "first", x, 1e-12)
    for i in range(LAYERS):
        x = p.norm(w, f"{i}.first", x + self_attention(p, w, f"{i}.attention", x, 12), 1e-12)
        x = p.norm(w, f"{i}.second", x + gelu_mlp(p, w, f"{i}.mlp", x, 3072, approximate=False), 1e-12)
    return x


def vit(p: Phrasing, w: Take, images: Array) -> Array:
    """[batch, 224, 224, 3] images to [batch, 197, 768] features."""
    x = lax.conv_general_dilated(
        images, w("patches.kernel", 16, 16, 3, 768), (16, 16), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = x.reshape(x.shape[0], -1, 768) + w("patches.bias", 768)
    first = jnp.broadcast_to(w("class", 1, 1, 768), (x.shape[0], 1, 768))
    x = jnp.concatenate([first, x], 1) + w("places", 1, 197, 768)
    for i in range(LAYERS):
        x = x + self_attention(p, w, f"{i}.attention", p.norm(w, f"{i}.first", x, 1e-12), 12)
        x = x + gelu_mlp(p, w, f"{i}.mlp", p.norm(w, f"{i}.second", x, 1e-12), 3072, approximate=False)
    return p.norm(w, "last", x, 1e-12)
