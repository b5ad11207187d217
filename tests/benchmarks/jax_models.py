"""GPT-2, BERT, ViT and ResNet-50 written by hand in JAX: what a rewrite would give, from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Weights = Mapping[str, Array]


def linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: Weights, name: str, x: Array, epsilon: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def attention(q: Array, k: Array, v: Array, heads: int, causal: bool) -> Array:
    q, k, v = _heads(q, heads), _heads(k, heads), _heads(v, heads)
    scores = jnp.einsum("bhqd,bhkd->bhqk", q / jnp.sqrt(q.shape[-1]).astype(q.dtype), k)
    if causal:
        length = q.shape[2]
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), v)
    return mixed.transpose(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1)


def gpt2(w: Weights, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, vocabulary] logits."""
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(12):
        at = f"transformer.h.{i}"
        y = norm(w, f"{at}.ln_1", x, 1e-5)
        q, k, v = jnp.split(y @ w[f"{at}.attn.c_attn.weight"] + w[f"{at}.attn.c_attn.bias"], 3, axis=-1)
        x = x + attention(q, k, v, 12, True) @ w[f"{at}.attn.c_proj.weight"] + w[f"{at}.attn.c_proj.bias"]
        y = norm(w, f"{at}.ln_2", x, 1e-5)
        y = jax.nn.gelu(y @ w[f"{at}.mlp.c_fc.weight"] + w[f"{at}.mlp.c_fc.bias"], approximate=True)
        x = x + y @ w[f"{at}.mlp.c_proj.weight"] + w[f"{at}.mlp.c_proj.bias"]
    return norm(w, "transformer.ln_f", x, 1e-5) @ w["lm_head.weight"].T


def bert(w: Weights, tokens: Array) -> Array:
    """[batch, length] tokens to [batch, length, width] features."""
    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(w, "embeddings.LayerNorm", x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]], 1e-12)
    for i in range(12):
        at = f"encoder.layer.{i}"
        q, k, v = (linear(w, f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        y = linear(w, f"{at}.attention.output.dense", attention(q, k, v, 12, False))
        x = norm(w, f"{at}.attention.output.LayerNorm", x + y, 1e-12)
        y = jax.nn.gelu(linear(w, f"{at}.intermediate.dense", x), approximate=False)
        x = norm(w, f"{at}.output.LayerNorm", x + linear(w, f"{at}.output.dense", y), 1e-12)
    return x


def vit(w: Weights, images: Array) -> Array:
    """[batch, 3, 224, 224] images to [batch, 197, width] features."""
    patches = lax.conv_general_dilated(
        images, w["embeddings.patch_embeddings.projection.weight"], (16, 16), "VALID",
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )  # fmt: skip
    patches = patches + w["embeddings.patch_embeddings.projection.bias"][:, None, None]
    x = patches.reshape(*patches.shape[:2], -1).transpose(0, 2, 1)
    first = jnp.broadcast_to(w["embeddings.cls_token"], (x.shape[0], 1, x.shape[2]))
    x = jnp.concatenate([first, x], 1) + w["embeddings.position_embeddings"]
    for i in range(12):
        at = f"layers.{i}"
        y = norm(w, f"{at}.layernorm_before", x, 1e-12)
        q, k, v = (linear(w, f"{at}.attention.{part}_proj", y) for part in "qkv")
        x = x + linear(w, f"{at}.attention.o_proj", attention(q, k, v, 12, False))
        y = norm(w, f"{at}.layernorm_after", x, 1e-12)
        y = jax.nn.gelu(linear(w, f"{at}.mlp.fc1", y), approximate=False)
        x = x + linear(w, f"{at}.mlp.fc2", y)
    return norm(w, "layernorm", x, 1e-12)


def _convolve(w: Weights, name: str, x: Array, stride: int) -> Array:
    kernel = w[f"{name}.convolution.weight"]
    pad = kernel.shape[-1] // 2
    x = lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW")
    )
    norm = f"{name}.normalization"
    scale = w[f"{norm}.weight"] * lax.rsqrt(w[f"{norm}.running_var"] + 1e-5)
    return x * scale[:, None, None] + (w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale)[:, None, None]


def resnet50(w: Weights, images: Array) -> Array:
    """[batch, 3, 224, 224] images to [batch, 2048] features."""
    x = jax.nn.relu(_convolve(w, "embedder.embedder", images, 2))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)])
    for stage, depth in enumerate((3, 4, 6, 3)):
        for block in range(depth):
            at, stride = f"encoder.stages.{stage}.layers.{block}", 2 if stage and not block else 1
            y = jax.nn.relu(_convolve(w, f"{at}.layer.0", x, 1))
            y = jax.nn.relu(_convolve(w, f"{at}.layer.1", y, stride))
            y = _convolve(w, f"{at}.layer.2", y, 1)
            x = jax.nn.relu(y + (x if block else _convolve(w, f"{at}.shortcut", x, stride)))
    return x.mean((2, 3))


MODELS: dict[str, Callable[[Weights, Any], Array]] = {
    "GPT-2 124M": gpt2,
    "BERT-base": bert,
    "ViT-base": vit,
    "ResNet-50": resnet50,
}
