"""Types and attributes of StableHLO's operations, as JAX and NumPy name them."""

from __future__ import annotations

import re
from typing import Any

import jax
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

# MLIR's element types by NumPy's names, but for integers, whose names differ by a few letters.
_NUMPY = {
    "i1": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64",
    "complex<f32>": "complex64", "complex<f64>": "complex128",
}  # fmt: skip


def element_type(value: Any) -> str:
    """Return the element type of an MLIR tensor value, as MLIR prints it."""
    return str(ir.RankedTensorType(value.type).element_type)


def array_type(value: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an MLIR tensor value."""
    shape, element = ir.RankedTensorType(value.type).shape, element_type(value)
    name = _NUMPY.get(element) or re.sub("^u?i", lambda sign: sign[0].replace("i", "int"), element)
    name = name.replace("f8", "float8_").lower()
    return jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(name))


def has_highest_precision(operation: Any) -> bool:
    """Tell whether a contraction asks for StableHLO's precision `HIGHEST`, of any operand."""
    attributes = operation.attributes
    return "precision_config" in attributes and "HIGHEST" in str(attributes["precision_config"])


def dot_parameters(operation: Any) -> dict[str, Any]:
    """Return the parameters of a `dot_general` as `lax.dot_general` names them."""
    dims = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
    contracting = tuple(dims.lhs_contracting_dimensions), tuple(dims.rhs_contracting_dimensions)
    batch = tuple(dims.lhs_batching_dimensions), tuple(dims.rhs_batching_dimensions)
    return {"dimension_numbers": (contracting, batch)}


def convolution_parameters(operation: Any) -> dict[str, Any]:
    """Return the parameters of a `convolution`, other than a gradient's, as integers.convolution names them."""
    given = operation.attributes
    dims = stablehlo.ConvDimensionNumbers(given["dimension_numbers"])
    assert ir.IntegerAttr(given["batch_group_count"]).value == 1, "no convolution of integers has groups of batches"
    assert not any(ir.DenseBoolArrayAttr(given["window_reversal"])), "JAX reverses kernels by themselves"
    numbers = [int(n) for n in ir.DenseIntElementsAttr(given["padding"])]
    return {
        "strides": tuple(ir.DenseI64ArrayAttr(given["window_strides"])),
        "padding": tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        "left_dilation": tuple(ir.DenseI64ArrayAttr(given["lhs_dilation"])),
        "right_dilation": tuple(ir.DenseI64ArrayAttr(given["rhs_dilation"])),
        "dimension_numbers": (
            (dims.input_batch_dimension, dims.input_feature_dimension, *dims.input_spatial_dimensions),
            (
                dims.kernel_output_feature_dimension,
                dims.kernel_input_feature_dimension,
                *dims.kernel_spatial_dimensions,
            ),
            (dims.output_batch_dimension, dims.output_feature_dimension, *dims.output_spatial_dimensions),
        ),
        "groups": ir.IntegerAttr(given["feature_group_count"]).value,
    }


def fft_parameters(operation: Any) -> dict[str, Any]:
    """Return the kind of an `fft`, such as `RFFT`, and its lengths."""
    kind = str(operation.attributes["fft_type"]).split()[-1].rstrip(">")
    return {"fft_type": kind, "lengths": tuple(ir.DenseI64ArrayAttr(operation.attributes["fft_length"]))}


def gather_parameters(operation: Any) -> dict[str, Any]:
    """Return what a `gather` takes at each index, as rows.gather_one names it, and whether it is batched."""
    dims = stablehlo.GatherDimensionNumbers(operation.attributes["dimension_numbers"])
    return {
        "collapsed": tuple(dims.collapsed_slice_dims),
        "start_index_map": tuple(dims.start_index_map),
        "slice_sizes": tuple(ir.DenseI64ArrayAttr(operation.attributes["slice_sizes"])),
        "batching": bool(dims.operand_batching_dims),
    }
