"""Convolutional networks in JAX: ResNet-50, with images or channels first."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from .phrasings import Take


@dataclass(frozen=True)
class Images:
    """A way to write convolutions and batch norms.

    channels: the dimension of channels in images, 1 or 3. folded: batch norm as a factor and a shift.
    """

    channels: int
    folded: bool

    @property
    def spatial(self) -> tuple[int, int]:
        """The dimensions of rows and columns."""
        return (2, 3) if self.channels == 1 else (1, 2)

    def convolve(self, w: Take, name: str, x: Array, width: int, size: int, stride: int = 1) -> Array:
        """A convolution without a bias; edges are padded so that a stride of 1 keeps the size."""
        if self.channels == 1:
            kernel, form = w(f"{name}.kernel", width, x.shape[1], size, size), ("NCHW", "OIHW", "NCHW")
        else:
            kernel, form = w(f"{name}.kernel", size, size, x.shape[3], width), ("NHWC", "HWIO", "NHWC")
        pad = [(size // 2, size // 2)] * 2
        return lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=form)

    def along(self, vector: Array) -> Array:
        """A vector of channels, shaped to go with images."""
        return vector[:, None, None] if self.channels == 1 else vector

    def batch_norm(self, w: Take, name: str, x: Array) -> Array:
        """Batch norm by known means and variances."""
        scale, bias, mean, variance = (
            w(f"{name}.{part}", x.shape[self.channels]) for part in ("scale", "bias", "mean", "variance")
        )
        factor = scale * lax.rsqrt(variance + 1e-5)
        if self.folded:
            return x * self.along(factor) + self.along(bias - mean * factor)
        return (x - self.along(mean)) * self.along(factor) + self.along(bias)

    def pool(self, x: Array) -> Array:
        """The largest of 3 x 3 neighbours, at every second row and column."""
        window, stride, pad = [1] * 4, [1] * 4, [(0, 0)] * 4
        for dimension in self.spatial:
            window[dimension], stride[dimension], pad[dimension] = 3, 2, (1, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, tuple(window), tuple(stride), pad)


def resnet50(images: Images, w: Take, x: Array) -> Array:
    """Images to [batch, 2048] features."""

    def layer(name: str, x: Array, width: int, size: int, stride: int = 1) -> Array:
        return images.batch_norm(w, f"{name}.norm", images.convolve(w, name, x, width, size, stride))

    x = images.pool(jax.nn.relu(layer("stem", x, 64, 7, 2)))
    for stage, depth in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(depth):
            at, stride = f"{stage}.{block}", 2 if stage and not block else 1
            y = jax.nn.relu(layer(f"{at}.first", x, width, 1))
            y = jax.nn.relu(layer(f"{at}.second", y, width, 3, stride))
            y = layer(f"{at}.third", y, 4 * width, 1)
            x = jax.nn.relu(y + (x if block else layer(f"{at}.shortcut", x, 4 * width, 1, stride)))
    return x.mean(images.spatial)


IMAGES = {
    "channels last": Images(3, folded=False),
    "channels last, factor and shift": Images(3, folded=True),
    "channels first, factor and shift": Images(1, folded=True),
}
