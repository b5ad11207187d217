"""Models with encoders in JAX: T5, encoder and decoder, and Whisper's encoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from . import transformers
from .phrasings import Phrasing, Take
from .transformers import gelu_mlp


def buckets(queries: int, keys: int, both_ways: bool) -> Array:
    """T5's buckets of relative positions: exact when near, logarithmic to 128, 32 in all."""
    apart = jnp.arange(keys)[None] - jnp.arange(queries)[:, None]
    count = 32
    start = jnp.zeros_like(apart)
    if both_ways:
        count //= 2
        start = (apart > 0) * count
        apart = jnp.abs(apart)
    else:
        apart = -jnp.minimum(apart, 0)
    near = count // 2
    far = near + (jnp.log(jnp.maximum(apart, 1) / near) / np.log(128 / near) * (count - near)).astype(int)
    return start + jnp.where(apart < near, apart, jnp.minimum(far, count - 1))


def t5(p: Phrasing, w: Take, tokens: Array, outputs: Array) -> Array:
    """[batch, length] tokens of both sides to the decoder's [batch, length, 768] features."""
    words = w("words", 32128, 768)

    def attention(name: str, x: Array, memory: Array, bias: Array | None, causal: bool) -> Array:
        q = p.heads(w, f"{name}.q", x, 12, 64, bias=False)
        k, v = (p.heads(w, f"{name}.{part}", memory, 12, 64, bias=False) for part in "kv")
        return p.merge(w, f"{name}.merge", p.attend(q, k, v, causal, bias, scale=1.0), 768, bias=False)

    def stack(name: str, x: Array, memory: Array | None) -> Array:
        table = w(f"{name}.places", 32, 12)
        bias = table[buckets(x.shape[1], x.shape[1], memory is None)].transpose(2, 0, 1)[None]
        for i in range(transformers.LAYERS):
            y = p.rms_norm(w, f"{name}.{i}.first", x, 1e-6)
            x = x + attention(f"{name}.{i}.self", y, y, bias, causal=memory is not None)
            if memory is not None:
                y = p.rms_norm(w, f"{name}.{i}.cross", x, 1e-6)
                x = x + attention(f"{name}.{i}.other", y, memory, None, causal=False)
            y = p.rms_norm(w, f"{name}.{i}.second", x, 1e-6)
            y = jax.nn.relu(p.linear(w, f"{name}.{i}.in", y, 3072, bias=False))
            x = x + p.linear(w, f"{name}.{i}.out", y, 768, bias=False)
        return p.rms_norm(w, f"{name}.last", x, 1e-6)

    return stack("decoder", words[outputs], stack("encoder", words[tokens], None))


def whisper(p: Phrasing, w: Take, spectrum: Array) -> Array:
    """[batch, 3000, 80] log-mel frames to [batch, 1500, 768] features."""

    def convolve(name: str, x: Array, stride: int) -> Array:
        kernel = w(f"{name}.kernel", 3, x.shape[-1], 768)
        y = lax.conv_general_dilated(x, kernel, (stride,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC"))
        return jax.nn.gelu(y + w(f"{name}.bias", 768), approximate=False)

    x = convolve("second", convolve("first", spectrum, 1), 2) + w("places", 1500, 768)
    for i in range(transformers.LAYERS):
        y = p.norm(w, f"{i}.first", x, 1e-5)
        q, v = (p.heads(w, f"{i}.{part}", y, 12, 64) for part in "qv")
        mixed = p.attend(q, p.heads(w, f"{i}.k", y, 12, 64, bias=False), v)
        x = x + p.merge(w, f"{i}.merge", mixed, 768)
        x = x + gelu_mlp(p, w, f"{i}.mlp", p.norm(w, f"{i}.second", x, 1e-5), 3072, approximate=False)
    return p.norm(w, "last", x, 1e-5)
