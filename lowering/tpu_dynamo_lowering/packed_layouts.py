"""The layout in which PyTorch packs matrices of int4 on a CPU, which depends on the CPU."""

from __future__ import annotations

import torch

aten = torch.ops.aten

# Operators whose meaning depends on that layout: it is part of the key of their programs.
PACKED_BY_CPU = (aten._convert_weight_to_int4pack_for_cpu.default, aten._weight_int4pack_mm_for_cpu.default)

# The rows whose numbers stand together in memory: four vectors of float32. Other CPUs have no such blocks.
_ROWS = {"AVX512": 64, "AVX2": 32}


def rows_in_block() -> int:
    """Return how many rows this process's PyTorch packs together, 0 where it packs pairs of neighbours.

    Source: `weight_to_int4pack_kernel` of ATen/native/cpu/int4mm_kernel.cpp.
    """
    return _ROWS.get(torch.backends.cpu.get_cpu_capability(), 0)
