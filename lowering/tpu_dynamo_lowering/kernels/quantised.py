"""Products of floats and integers of eight and four bits, as PyTorch packs them."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..packed_layouts import rows_in_block
from ..table import kernel
from ..target import ANY, Target
from .block_products import multiply_blocks

aten = torch.ops.aten

# What a number of four bits is less than the one that is stored.
_MIDDLE = 8


@kernel(aten._weight_int8pack_mm.default)
def weight_int8pack_mm(self: Array, mat2: Array, scales: Array) -> Array:
    """Multiply by a transposed int8 matrix, [columns, shared], whose rows have scales; accumulated in float32."""
    product = jnp.matmul(self, mat2.T.astype(self.dtype), preferred_element_type=jnp.float32)
    return product * scales.astype(jnp.float32)


def _halves(packed: Array) -> tuple[Array, Array]:
    """Return the lower and the upper four bits of each byte, as uint8."""
    return packed & 15, packed >> 4


def _in_blocks(rows: int) -> tuple[int, int]:
    """Return how many rows stand in blocks, and a block's rows. What is left stands in pairs of neighbours."""
    block = rows_in_block()
    return (rows // block * block, block) if block else (0, 1)


@kernel(aten._convert_weight_to_int4pack_for_cpu.default)
def pack_for_cpu(self: Array, innerKTiles: int) -> Array:
    """Pack a matrix of numbers below 16, [rows, shared] int32, into [rows, shared / 2] bytes, as this CPU does.

    In a block of rows, a byte has a row of its first half and one of its second, all rows of a column together; in
    rows that fill no block, two neighbours.
    """
    rows, shared = self.shape
    whole, block = _in_blocks(rows)
    value = self.astype(jnp.uint8)
    blocks = value[:whole].reshape(-1, 2, block // 2, shared).transpose(1, 0, 3, 2) if whole else value[:0]
    pairs = value[whole:].reshape(-1, 2, shared).transpose(1, 2, 0)
    parts = [part[0] | part[1] << 4 for part in (blocks, pairs) if part.size]
    return jnp.concatenate([part.reshape(-1) for part in parts]).reshape(rows, shared // 2)


def _unpacked_for_cpu(packed: Array) -> Array:
    """Return [shared, rows] of what `pack_for_cpu` packs."""
    rows, shared = packed.shape[0], 2 * packed.shape[1]
    whole, block = _in_blocks(rows)
    bytes = packed.reshape(-1)
    edge = whole * shared // 2
    blocks = jnp.concatenate(_halves(bytes[:edge].reshape(whole // block, shared, block // 2)), -1)
    pairs = jnp.stack(_halves(bytes[edge:].reshape(shared, (rows - whole) // 2)), -1)
    columns = blocks.swapaxes(0, 1).reshape(shared, whole), pairs.reshape(shared, rows - whole)
    return jnp.concatenate(columns, -1)


def _multiplied_by_groups(value: Array, stored: Array, group: int, scales_and_zeros: Array, target: Target) -> Array:
    """Multiply [M, K] floats by [K, N] numbers of four bits, of which each group along K has a scale and an offset.

    scales_and_zeros: [K / group, N, 2]. The numbers are dequantised in float32, and rounded to the floats' dtype where
    that is what the target multiplies, as GPUs do too.
    """
    shared, columns = stored.shape
    scale, offset = (scales_and_zeros.astype(jnp.float32)[:, None, :, each] for each in (0, 1))
    numbers = (stored.astype(jnp.float32) - _MIDDLE).reshape(shared // group, group, columns)
    weight = (numbers * scale + offset).reshape(shared, columns)
    dtype = jnp.float32 if target.platform == "cpu" else value.dtype
    return jnp.matmul(value.astype(dtype), weight.astype(dtype), preferred_element_type=jnp.float32)


@kernel(aten._weight_int4pack_mm_for_cpu.default)
def weight_int4pack_mm_for_cpu(
    self: Array,
    mat2: Array,
    qGroupSize: int,
    qScaleAndZeros: Array,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply by a transposed matrix of four bits, packed as this CPU packs it, with scales and offsets of groups."""
    return _multiplied_by_groups(self, _unpacked_for_cpu(mat2), qGroupSize, qScaleAndZeros, compiled_for)


@kernel(aten._convert_weight_to_int4pack.default)
def pack_for_tensor_cores(self: Array, innerKTiles: int) -> Array:
    """Pack a matrix of four bits for the tensor cores of NVIDIA's GPUs, so that checkpoints for these can be used.

    self: [rows, shared / 2] uint8, whose upper halves have the even columns. The result is
    [rows / 8, shared / (16 innerKTiles), 32, innerKTiles / 2] int32. Source: `matrix_to_m16n8k16_Bint4_layout` of
    ATen/native/cuda/int4mm.cu.
    """
    rows, bytes = self.shape
    odd, even = _halves(self)
    # Of 16 bytes, four lanes take every fourth each; a word has the upper halves of a lane's, and then the lower ones.
    words = jnp.stack([even, odd]).reshape(2, rows // 8, 8, bytes // (8 * innerKTiles), innerKTiles // 2, 4, 4)
    words = words.transpose(1, 3, 2, 6, 4, 0, 5).reshape(rows // 8, -1, 32, innerKTiles // 2, 8)
    shifts = jnp.arange(8, dtype=jnp.uint32) * 4
    packed = jnp.sum(words.astype(jnp.uint32) << shifts, axis=-1, dtype=jnp.uint32)
    return lax.bitcast_convert_type(packed, jnp.int32)


@kernel(aten._weight_int4pack_mm.default)
def weight_int4pack_mm(
    self: Array,
    mat2: Array,
    qGroupSize: int,
    qScaleAndZeros: Array,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply by a transposed matrix of four bits, packed for tensor cores, with scales and offsets of groups.

    Raises NotImplementedError for a matrix in the layout of Intel's GPUs, which has two dimensions.
    """
    if mat2.ndim != 4:
        raise NotImplementedError(
            "a matrix of int4 packed for Intel's GPUs; pack it with torch.ops.aten._convert_weight_to_int4pack on this"
            " device, or on the CPU with its _for_cpu"
        )
    tiles, outer, _, pairs = mat2.shape
    shifts = jnp.arange(8, dtype=jnp.uint32) * 4
    words = lax.bitcast_convert_type(mat2, jnp.uint32)[..., None] >> shifts & 15
    words = words.reshape(tiles, outer, 8, 4, pairs, 2, 4).transpose(1, 4, 6, 3, 5, 0, 2)
    stored = words.reshape(outer * pairs * 32, tiles * 8)
    return _multiplied_by_groups(self, stored, qGroupSize, qScaleAndZeros, compiled_for)


@kernel(aten._weight_int4pack_mm_with_scales_and_zeros.default)
def weight_int4pack_mm_with_scales_and_zeros(
    self: Array,
    mat2: Array,
    qGroupSize: int,
    qScale: Array,
    qZeros: Array,
) -> Array:
    """Refuse a product with a matrix in the layout of Intel's GPUs, which only oneDNN describes."""
    raise NotImplementedError(
        "a matrix of int4 packed for Intel's GPUs, in a layout that only oneDNN knows; quantise with torchao's"
        " IntxWeightOnlyConfig(weight_dtype=torch.int4), or pack with torch.ops.aten._convert_weight_to_int4pack"
    )


def _refuse_arm() -> None:
    raise NotImplementedError(
        "a matrix of int4 packed for ARM CPUs, in a layout that only KleidiAI knows; quantise with torchao's"
        " Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4) without a packing format"
    )


@kernel(aten._dyn_quant_pack_4bit_weight.default)
def dyn_quant_pack_4bit_weight(
    weights: Array, scales_zeros: Array, bias: Array | None, block_size: int, in_features: int, out_features: int
) -> Array:
    """Put a matrix of four bits, its scales and its bias side by side in float32, as CPUs without KleidiAI do.

    Raises NotImplementedError where PyTorch has KleidiAI.
    """
    if torch.backends.kleidiai.is_available():
        _refuse_arm()
    parts = [weights, scales_zeros, *([] if bias is None else [bias])]
    return jnp.concatenate([part.reshape(-1).astype(jnp.float32) for part in parts])


def _quantised_rows(value: Array) -> tuple[Array, Array, Array]:
    """Return rows as int8, the scale of each, and what is added to its numbers before they are scaled, int32.

    value: [M, K]. The grid of a row holds zero, and its numbers are rounded away from zero.
    """
    value = value.astype(jnp.float32)
    low = jnp.minimum(value.min(axis=1, keepdims=True), 0)
    high = jnp.maximum(value.max(axis=1, keepdims=True), 0)
    steps = jnp.where(low == high, 1, 255 / (high - low))
    smallest, largest = -128 + low * steps, 127 + high * steps
    zero = jnp.where(smallest + largest > 0, -128 - low * steps, 127 - high * steps)
    zero = jnp.round(jnp.clip(zero, -128, 127)).astype(jnp.int32)
    numbers = lax.round(value * steps, lax.RoundingMethod.AWAY_FROM_ZERO).astype(jnp.int32) + zero
    return jnp.clip(numbers, -128, 127).astype(jnp.int8), 1 / steps, -zero


@kernel(aten._dyn_quant_matmul_4bit.default)
def dyn_quant_matmul_4bit(
    inp: Array, packed_weights: Array, block_size: int, in_features: int, out_features: int
) -> Array:
    """Multiply rows, quantised to int8 each by itself, by a transposed matrix of four bits with scales of groups.

    packed_weights: as `_dyn_quant_pack_4bit_weight` gives it. A product of int8, summed in int32. A result of bfloat16
    is cut off and not rounded, as in PyTorch's kernel. Raises NotImplementedError for what KleidiAI packed.
    """
    if packed_weights.dtype != jnp.float32:
        _refuse_arm()
    groups, edge = in_features // block_size, in_features * out_features // 2
    low, high = _halves(packed_weights[:edge].astype(jnp.uint8).reshape(out_features, -1))
    weight = jnp.stack([low, high], -1).reshape(out_features, groups, block_size).astype(jnp.int8) - jnp.int8(_MIDDLE)
    end = edge + groups * out_features
    scales, bias = packed_weights[edge:end].reshape(out_features, groups), packed_weights[end:]
    numbers, scale, shift = _quantised_rows(inp)
    numbers = numbers.reshape(-1, groups, block_size)
    ones = jnp.ones((1, groups), jnp.float32)
    product = multiply_blocks(numbers, weight.transpose(1, 2, 0), ones, scales.T, shift) * scale
    product = product + bias if bias.size else product
    if inp.dtype == jnp.float32:
        return product
    bits = lax.bitcast_convert_type(product, jnp.uint32) & jnp.uint32(0xFFFF0000)
    return lax.bitcast_convert_type(bits, jnp.float32)
