"""A U-Net that denoises images in steps, with attention at its lower level: in PyTorch, and the same in JAX."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax
from torch import Tensor, nn
from torch.nn import functional as F

from .phrasings import Phrasing, Take

# Channels of images and of the two levels, of the embedded step; heads are of 64.
IMAGE, WIDE, DEEP, STEP = 4, 128, 256, 512
GROUPS, HEAD = 32, 64


class Block(nn.Module):
    """Two convolutions behind group norms, with the step added between them, and a way around them."""

    def __init__(self, given: int, width: int):
        super().__init__()
        self.first_norm, self.first = nn.GroupNorm(GROUPS, given), nn.Conv2d(given, width, 3, padding=1)
        self.step = nn.Linear(STEP, width)
        self.second_norm, self.second = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, width, 3, padding=1)
        self.around = nn.Conv2d(given, width, 1) if given != width else nn.Identity()

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        y = self.first(F.silu(self.first_norm(x))) + self.step(step)[:, :, None, None]
        return self.around(x) + self.second(F.silu(self.second_norm(y)))


class Attention(nn.Module):
    """Attention among all pixels."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.q, self.k, self.v, self.merge = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).flatten(2).transpose(1, 2)
        heads = [part(y).unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in (self.q, self.k, self.v)]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return x + self.merge(mixed).transpose(1, 2).unflatten(-1, x.shape[2:])


class UNet(nn.Module):
    """[batch, 4, rows, columns] images and [batch] steps to the noise in the images."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.embed_again = nn.Linear(WIDE, STEP), nn.Linear(STEP, STEP)
        self.enter, self.wide = nn.Conv2d(IMAGE, WIDE, 3, padding=1), Block(WIDE, WIDE)
        self.down = nn.Conv2d(WIDE, WIDE, 3, stride=2, padding=1)
        self.deep, self.deep_attention = Block(WIDE, DEEP), Attention(DEEP)
        self.middle, self.middle_attention, self.middle_again = Block(DEEP, DEEP), Attention(DEEP), Block(DEEP, DEEP)
        self.back, self.back_attention = Block(2 * DEEP, DEEP), Attention(DEEP)
        self.up, self.leave = nn.Conv2d(DEEP, DEEP, 3, padding=1), Block(DEEP + WIDE, WIDE)
        self.last_norm, self.last = nn.GroupNorm(GROUPS, WIDE), nn.Conv2d(WIDE, IMAGE, 3, padding=1)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(WIDE // 2, device=x.device) * (-math.log(10000.0) / (WIDE // 2)))
        angles = steps[:, None].float() * rates
        step = F.silu(self.embed(torch.cat([angles.cos(), angles.sin()], -1).to(x.dtype)))
        step = F.silu(self.embed_again(step))
        wide = self.wide(self.enter(x), step)
        deep = self.deep_attention(self.deep(self.down(wide), step))
        y = self.middle_again(self.middle_attention(self.middle(deep, step)), step)
        y = self.back_attention(self.back(torch.cat([y, deep], 1), step))
        y = self.leave(torch.cat([self.up(F.interpolate(y, scale_factor=2.0, mode="nearest")), wide], 1), step)
        return self.last(F.silu(self.last_norm(y)))


def unet(p: Phrasing, w: Take, x: Array, steps: Array) -> Array:
    """[batch, rows, columns, 4] images and [batch] steps to the noise in the images; names as in PyTorch."""

    def convolve(name: str, x: Array, width: int, size: int = 3, stride: int = 1) -> Array:
        kernel = w(f"{name}.kernel", size, size, x.shape[-1], width)
        pads = [(size // 2, size // 2)] * 2
        form = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (stride,) * 2, pads, dimension_numbers=form) + w(
            f"{name}.bias", width
        )

    def group_norm(name: str, x: Array) -> Array:
        grouped = x.reshape(x.shape[0], -1, GROUPS, x.shape[-1] // GROUPS).astype(jnp.float32)
        mean = grouped.mean((1, 3), keepdims=True)
        variance = ((grouped - mean) ** 2).mean((1, 3), keepdims=True)
        y = ((grouped - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return (y * w(f"{name}.scale", x.shape[-1]) + w(f"{name}.bias", x.shape[-1])).astype(x.dtype)

    def block(name: str, x: Array, width: int, step: Array) -> Array:
        y = convolve(f"{name}.first", jax.nn.silu(group_norm(f"{name}.first_norm", x)), width)
        y = y + p.linear(w, f"{name}.step", step, width)[:, None, None]
        y = convolve(f"{name}.second", jax.nn.silu(group_norm(f"{name}.second_norm", y)), width)
        return y + (convolve(f"{name}.around", x, width, 1) if x.shape[-1] != width else x)

    def attention(name: str, x: Array) -> Array:
        batch, rows, columns, width = x.shape
        y = group_norm(f"{name}.norm", x).reshape(batch, rows * columns, width)
        q, k, v = (p.heads(w, f"{name}.{part}", y, width // HEAD, HEAD) for part in "qkv")
        return x + p.merge(w, f"{name}.merge", p.attend(q, k, v), width).reshape(x.shape)

    rates = jnp.exp(jnp.arange(WIDE // 2) * (-math.log(10000.0) / (WIDE // 2)))
    angles = steps[:, None].astype(jnp.float32) * rates
    step: Any = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1).astype(x.dtype)
    step = jax.nn.silu(p.linear(w, "embed", step, STEP))
    step = jax.nn.silu(p.linear(w, "embed_again", step, STEP))
    wide = block("wide", convolve("enter", x, WIDE), WIDE, step)
    deep = attention("deep_attention", block("deep", convolve("down", wide, WIDE, stride=2), DEEP, step))
    y = block("middle_again", attention("middle_attention", block("middle", deep, DEEP, step)), DEEP, step)
    y = attention("back_attention", block("back", jnp.concatenate([y, deep], -1), DEEP, step))
    y = convolve("up", y.repeat(2, axis=1).repeat(2, axis=2), DEEP)
    y = block("leave", jnp.concatenate([y, wide], -1), WIDE, step)
    return convolve("last", jax.nn.silu(group_norm("last_norm", y)), IMAGE)
