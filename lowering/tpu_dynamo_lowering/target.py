"""The device that a program is lowered for, as far as kernels depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AttentionForm = Literal["auto", "plain", "fused"]


@dataclass(frozen=True)
class Target:
    """The device and the settings that kernels may ask for.

    platform: `cpu`, `cuda` or `tpu`. fast_memory: the bytes that the target has next to its matrix unit, None where
    that is not known or does not matter. matmul_precision: of products of float32, as
    `torch.get_float32_matmul_precision()` gives it. attention: `plain` writes attention as products and a softmax,
    `fused` as one kernel, `auto` as what suits its shapes on the target.
    """

    platform: str = "cpu"
    fast_memory: int | None = None
    matmul_precision: str = "highest"
    attention: AttentionForm = "auto"

    def kernel_precision(self, dtype: object) -> str:
        """Return the precision of a Pallas kernel's products in JAX's words; there are none of three passes."""
        return "default" if str(dtype) != "float32" or self.matmul_precision == "medium" else "highest"


ANY = Target()
