"""Counting what a compile made, in a form in which everything has an estimate."""

from __future__ import annotations

from dataclasses import replace

from .compilation import Compilation, DoesNotFit
from .compilers import Compiler
from .cost import Cost, cost_of
from .hlo import parse_hlo
from .job import Span
from .kernel_estimates import KERNEL, is_kernel
from .xla_flags import XlaFlags

# With it libtpu makes a kernel of its own of product, softmax and product, and gives no cycles for it. The CostEstimate
# that the kernel carries is that of a chip whose every unit is busy: a seventh of what the operations are estimated at.
_PLAIN_ATTENTION = {"xla_tpu_enable_flash_attention": "False"}


def form_to_count(
    compiler: Compiler, stablehlo: bytes, compiled: Compilation, flags: XlaFlags = (), span: Span = ()
) -> Compilation | None:
    """Return a program compiled a second time, without kernels of libtpu's own; None where it has none.

    flags, span: with which it was compiled. None as well where it does not fit the chip without those kernels.
    """
    if not _kernels(compiled):
        return None
    try:
        plain = compiler.compile(stablehlo, tuple({**dict(flags), **_PLAIN_ATTENTION}.items()), span)
    except DoesNotFit:
        return None
    return plain if _kernels(plain) < _kernels(compiled) else None


def count(compiled: Compilation, to_count: Compilation | None) -> Cost:
    """Compute the cost of a compiled program; to_count: as `form_to_count` gives it."""
    if to_count is None:
        return cost_of(compiled.hlo, compiled.flops, compiled.chip)
    cost = cost_of(to_count.hlo, to_count.flops, to_count.chip)
    return replace(cost, replaced={f"custom-call {KERNEL}": _kernels(compiled) - _kernels(to_count)})


def _kernels(compiled: Compilation) -> int:
    if KERNEL not in compiled.hlo:
        return 0
    computations = parse_hlo(compiled.hlo).computations.values()
    return sum(is_kernel(call) for each in computations for call in each.instructions.values())
