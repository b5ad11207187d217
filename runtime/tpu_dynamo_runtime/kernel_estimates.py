"""Estimates of kernels that libtpu takes as they are, from what their authors say that they do."""

from __future__ import annotations

import re

from .chips import Chip
from .hlo import Instruction

KERNEL = "tpu_custom_call"

_ESTIMATE = re.compile(r'"cost_estimate":\{([^}]*)\}')
_FIGURE = re.compile(r'"(\w+)":"?(\d+)')


def is_kernel(instruction: Instruction) -> bool:
    """Return True for a kernel, written in Pallas or by libtpu itself; libtpu gives `estimated_cycles` for none."""
    return instruction.opcode == "custom-call" and instruction.attribute("custom_call_target") == KERNEL


def kernel_cycles(kernel: Instruction, chip: Chip) -> int | None:
    """Estimate a kernel's cycles from its CostEstimate; None where it carries none.

    The dearest of its products, its reads and writes of main memory, and its transcendental functions, each as fast as
    libtpu has it elsewhere on that chip: a kernel that lets one wait for the other takes longer.
    Source: `pallas.CostEstimate`, which lowering writes into the call.
    """
    match = _ESTIMATE.search(kernel.config)
    if match is None:
        return None
    figures = {name: int(figure) for name, figure in _FIGURE.findall(match[1])}
    return round(
        max(
            figures.get("flops", 0) / chip.flops_per_cycle,
            figures.get("bytes_accessed", 0) / chip.bytes_per_cycle,
            figures.get("transcendentals", 0) / chip.transcendentals_per_cycle,
        )
    )
