"""Phrasings: the ways in which people write a layer in JAX. Models are written once, in terms of these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# From a weight's name and sizes to its values.
Take = Callable[..., Array]


class Phrasing(ABC):
    """A way to write the layers of a transformer. x: [batch, length, width]; heads: [batch, length, heads, size]."""

    @abstractmethod
    def norm(self, w: Take, name: str, x: Array, epsilon: float) -> Array:
        """Layer norm over the last dimension."""

    @abstractmethod
    def heads(self, w: Take, name: str, x: Array, heads: int, size: int, bias: bool = True) -> Array:
        """The projection of x to heads."""

    @abstractmethod
    def merge(self, w: Take, name: str, x: Array, width: int, bias: bool = True) -> Array:
        """The projection of heads to the model's width."""

    @abstractmethod
    def attend(
        self, q: Array, k: Array, v: Array, causal: bool = False, bias: Array | None = None, scale: float | None = None
    ) -> Array:
        """Attention of heads; of keys and values there may be fewer, each for a group of queries' heads.

        bias: [1 or batch, heads, queries, keys], added to the scores.
        """

    def linear(self, w: Take, name: str, x: Array, width: int, bias: bool = True) -> Array:
        """A linear layer."""
        y = x @ w(f"{name}.kernel", x.shape[-1], width)
        return y + w(f"{name}.bias", width) if bias else y

    def rms_norm(self, w: Take, name: str, x: Array, epsilon: float) -> Array:
        """A norm by the root of the mean square, computed in float32 as the published models do it."""
        precise = x.astype(jnp.float32)
        scale = lax.rsqrt((precise**2).mean(-1, keepdims=True) + epsilon)
        return w(f"{name}.scale", x.shape[-1]) * (precise * scale).astype(x.dtype)


class ByHand(Phrasing):
    """Layers written from the formulas: everything in the dtype of x, heads moved to the front, norms in two passes."""

    def norm(self, w: Take, name: str, x: Array, epsilon: float) -> Array:
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        y = (x - mean) * lax.rsqrt(variance + epsilon)
        return y * w(f"{name}.scale", x.shape[-1]) + w(f"{name}.bias", x.shape[-1])

    def heads(self, w: Take, name: str, x: Array, heads: int, size: int, bias: bool = True) -> Array:
        return self.linear(w, name, x, heads * size, bias).reshape(*x.shape[:2], heads, size)

    def merge(self, w: Take, name: str, x: Array, width: int, bias: bool = True) -> Array:
        return self.linear(w, name, x.reshape(*x.shape[:2], -1), width, bias)

    def attend(
        self, q: Array, k: Array, v: Array, causal: bool = False, bias: Array | None = None, scale: float | None = None
    ) -> Array:
        if k.shape[2] < q.shape[2]:
            k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q * (q.shape[-1] ** -0.5 if scale is None else scale), k)
        if bias is not None:
            scores = scores + bias
        if causal:
            scores = jnp.where(jnp.tril(jnp.ones(scores.shape[2:], bool)), scores, -jnp.inf)
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), v).transpose(0, 2, 1, 3)


class WithLibraries(Phrasing):
    """Layers as Flax writes them: one-pass norms in float32, projections to heads in one einsum, jax.nn's attention."""

    def norm(self, w: Take, name: str, x: Array, epsilon: float) -> Array:
        precise = x.astype(jnp.float32)
        mean = precise.mean(-1, keepdims=True)
        variance = jnp.maximum(0.0, (precise**2).mean(-1, keepdims=True) - mean**2)
        factor = lax.rsqrt(variance + epsilon) * w(f"{name}.scale", x.shape[-1])
        return ((precise - mean) * factor + w(f"{name}.bias", x.shape[-1])).astype(x.dtype)

    def heads(self, w: Take, name: str, x: Array, heads: int, size: int, bias: bool = True) -> Array:
        y = jnp.einsum("bsd,dhk->bshk", x, w(f"{name}.kernel", x.shape[-1], heads, size))
        return y + w(f"{name}.bias", heads, size) if bias else y

    def merge(self, w: Take, name: str, x: Array, width: int, bias: bool = True) -> Array:
        y = jnp.einsum("bshk,hkd->bsd", x, w(f"{name}.kernel", *x.shape[2:], width))
        return y + w(f"{name}.bias", width) if bias else y

    def attend(
        self, q: Array, k: Array, v: Array, causal: bool = False, bias: Array | None = None, scale: float | None = None
    ) -> Array:
        return jax.nn.dot_product_attention(q, k, v, bias=bias, is_causal=causal, scale=scale)


class Mixed(ByHand):
    """By hand, but for one-pass norms in float32."""

    norm = WithLibraries.norm


class MixedHeads(WithLibraries):
    """With libraries, but for attention, which is by hand in the dtype of x."""

    attend = ByHand.attend


PHRASINGS: dict[str, Phrasing] = {
    "by hand": ByHand(),
    "with libraries": WithLibraries(),
    "by hand, one-pass norms": Mixed(),
    "with libraries, attention by hand": MixedHeads(),
}

Model = Callable[[Any, Take, Any], Array]
