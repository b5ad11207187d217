"""The pass that puts for a TPU, in the place of operations that XLA refuses there, functions that say the same."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from jax import Array

from .. import jax_compat
from . import fourier, integers, rows

_WIDE = ("i64", "ui64")
_SINGLE = ("f32", "complex<f32>")
# What XLA lays out so that a slice of one row is no slice of memory, and a copy of so little is no matter.
_BYTES, _SMALL = 1, 2**16


def legalise(module: Any) -> None:
    """Replace, in a finished module for a TPU, the operations that XLA does not compile there, or badly."""
    symbols: dict[str, str] = {}
    for operation in jax_compat.operations(module):
        name = operation.operation.name
        if name in ("stablehlo.dot_general", "stablehlo.convolution"):
            form = _contraction(operation)
        elif name == "stablehlo.fft":
            form = _transform(operation)
        elif name == "stablehlo.gather":
            form = _single_slice(operation)
        else:
            continue
        if form is None:
            continue
        operands = [jax_compat.array_type(value) for value in operation.operands]
        key = f"{name}{form.keywords}{operands}"
        if key not in symbols:
            symbols[key] = f"tpu_{len(symbols)}_{name.removeprefix('stablehlo.')}"
            jax_compat.add_function(module, symbols[key], form, operands, "tpu")
        jax_compat.replace_by_call(operation, symbols[key])


def _contraction(operation: Any) -> partial[Array] | None:
    """Return the function that computes a product or convolution of 64-bit integers; None for other operations.

    Of a float and an integer, which JAX's linear algebra multiplies where it knows signs, the integer becomes a float.
    """
    if not any(jax_compat.element_type(value) in _WIDE for value in operation.operands):
        return None
    jax_compat.convert_operands(operation)
    if jax_compat.element_type(operation.results[0]) not in _WIDE:
        return None
    if operation.operation.name == "stablehlo.dot_general":
        return partial(integers.dot_general, **jax_compat.dot_parameters(operation))
    return partial(integers.convolution, **jax_compat.convolution_parameters(operation))


def _transform(operation: Any) -> partial[Array] | None:
    """Return the function for a Fourier transform that XLA lacks for a dtype or does badly; None for others."""
    parameters = jax_compat.fft_parameters(operation)
    single = jax_compat.element_type(operation.operands[0]) in _SINGLE
    if single and all(map(fourier.is_for_xla, parameters["lengths"])):
        return None
    return partial(fourier.fft, **parameters)


def _single_slice(operation: Any) -> partial[Array] | None:
    """Return the function that gathers one slice of a large tensor of bytes; None for other operations.

    XLA makes of such a gather a slice, for which it copies the whole tensor: the table of an embedding in int8 that is
    asked for one token.
    """
    operand, result = (jax_compat.array_type(value) for value in (operation.operands[0], operation.results[0]))
    parameters = jax_compat.gather_parameters(operation)
    single = result.size == math.prod(parameters["slice_sizes"])
    if operand.dtype.itemsize != _BYTES or operand.size < _SMALL or not single or parameters.pop("batching"):
        return None
    return partial(rows.gather_one, **parameters, shape=result.shape)
