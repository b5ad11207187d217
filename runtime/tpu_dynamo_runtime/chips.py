"""Facts about each generation of TPU chip, for compiling without one."""

from __future__ import annotations

from dataclasses import dataclass

_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Chip:
    """One generation of TPU, as PJRT and XLA see it.

    name: as in the names of topologies. hbm: bytes of memory of the whole chip. cores: TensorCores of the chip.
    devices: the number of PJRT devices of a chip; a program runs on one. usable_hbm: the bytes of one device that a
    program may use; libtpu keeps the rest. vmem: bytes of vector memory of a core. kind: as PJRT names its devices.
    accelerator_type: what libtpu is told that it runs on. config: libtpu's chip configuration; nothing is its default.
    dimensions: of its topologies. largest: chips of the largest topology.
    flops_per_cycle, bytes_per_cycle, transcendentals_per_cycle: what one device does in a cycle of libtpu's estimates
    of large bfloat16 products, of reading and writing its memory, and of exponentials.
    clock: such cycles in a second. link_bandwidth: bytes in a second, one way, of one link between neighbours.
    """

    name: str
    hbm: int
    cores: int
    devices: int
    usable_hbm: int
    vmem: int
    kind: str
    accelerator_type: str
    dimensions: int
    largest: int
    flops_per_cycle: int
    bytes_per_cycle: int
    transcendentals_per_cycle: int
    clock: float
    link_bandwidth: float
    config: str = ""


# hbm, cores and largest: "System architecture" in the page of each generation, docs.cloud.google.com/tpu/docs.
# devices: the number of devices of a topology in libtpu 0.0.52, over its chips.
# usable_hbm: what libtpu 0.0.52 calls "available HBM" when a program is too large; memory of the device less the
# "reserved" of its log.
# vmem: vmem_capacity_bytes in jax/_src/pallas/mosaic/tpu_info.py, jax 0.10.2.
# What is done in a cycle: libtpu 0.0.52's estimates of a product of 8192 x 8192 matrices, of x * 2 on twice as many
# float32 numbers, and of 64 exponentials one after the other, beside their counts; a test compares.
# clock: "Peak compute per chip (bf16)" in the page of each generation over the operations that its matrix units do in a
# cycle: four of 128 x 128 in a core of v4, v5e and v5p; 2^19 operations a device of v6e and tpu7x, by which libtpu's
# estimates of products stay below the peak.
# link_bandwidth: "Interchip Interconnect BW" (v5e 1600 Gbps, v6e 3200, v5p 4800, v4 2400), which is one way, and
# "Bidirectional ICI bandwidth per chip" (v5p and tpu7x 1200 GBps), over the links: 4 of v5e and v6e, 6 of the others.
_CHIPS = (
    # By default libtpu describes the two cores of a v4 apart; TPU machines run them as one device ("megacore").
    Chip(
        "v4", 32 * _GIB, 2, 1, 32 * _GIB - 1280 * _MIB, 16 * _MIB, "TPU v4", "v4-8", 3, 4096,
        243_000, 898, 2048, 1.05e9, 50e9, config="megacore",
    ),
    Chip(
        "v5e", 16 * _GIB, 1, 1, 16 * _GIB - 258 * _MIB, 128 * _MIB, "TPU v5 lite", "v5litepod-4", 2, 256,
        115_000, 438, 2048, 1.5e9, 50e9,
    ),
    Chip(
        "v5p", 95 * _GIB, 2, 1, 96 * _GIB - 279 * _MIB, 64 * _MIB, "TPU v5", "v5p-8", 3, 6144,
        236_000, 1125, 4096, 1.75e9, 100e9,
    ),
    Chip(
        "v6e", 32 * _GIB, 1, 1, 31 * _GIB + 512 * _MIB - 264 * _MIB, 128 * _MIB, "TPU v6 lite", "v6e-4", 2, 256,
        369_000, 757, 2048, 1.75e9, 100e9,
    ),
    Chip(
        "tpu7x", 192 * _GIB, 2, 2, 95 * _GIB - 268 * _MIB, 64 * _MIB, "TPU7x", "tpu7x-8", 3, 9216,
        422_000, 1266, 2048, 2.2e9, 100e9,
    ),
)  # fmt: skip

CHIPS = {chip.name: chip for chip in _CHIPS}


def fast_memory_of(device_kind: str) -> int | None:
    """Return the bytes of vector memory of a core of the device, None for one that is no known TPU."""
    return next((chip.vmem for chip in CHIPS.values() if chip.kind == device_kind), None)
