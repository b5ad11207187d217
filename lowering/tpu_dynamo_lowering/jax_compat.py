"""The one door of lowering to JAX's private APIs and to jaxlib's MLIR bindings."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax._src import config, core, sharding_impls
from jax._src.config import include_full_tracebacks_in_locations
from jax._src.interpreters import mlir as jax_mlir
from jax._src.interpreters import partial_eval
from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import stablehlo

MLIRError = ir.MLIRError
InconclusiveSize = core.InconclusiveDimensionOperation

# MLIR's element types by NumPy's names, but for integers, whose names differ by a few letters.
_NUMPY = {
    "i1": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64",
    "complex<f32>": "complex64", "complex<f64>": "complex128",
}  # fmt: skip

# The axis of a program's ranks, for JAX's collectives.
RANKS = "ranks"

_PLAIN = (bool, int, float, str, enum.Enum, type(None))


class _NoBackend:
    """Stands for the backend, of no platform, that lowering would start to ask it for its version."""

    platform = runtime_type = "none"


def lower_function(
    function: Callable[..., Any], operands: Sequence[jax.ShapeDtypeStruct], platform: str, replicas: int = 0
) -> ir.Module:
    """Lower `function` on `operands` to a StableHLO module with one `@main`, for one platform.

    Initialises no backend, so it works on a machine without the platform. 64-bit types are kept in this call
    alone: JAX's x64 flag belongs to the user. replicas: the length of the axis `RANKS` that the function sees; without
    it there is none.
    """
    # Of a location the kernel's own line is enough: callers above it would be frames of this package and of Dynamo.
    short_locations = include_full_tracebacks_in_locations(False)
    axis = [(RANKS, replicas)] if replicas else []
    # Beyond the scope jaxlib would remember, and its caches hold, the user's code that is being compiled.
    with _jax.TracebackScope(), jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), short_locations:
        with core.extend_axis_env_nd(axis):
            closed: Any = jax.make_jaxpr(function)(*operands)
            if closed.jaxpr.is_high:  # primitives that JAX itself takes apart before it lowers them
                closed = partial_eval.lower_jaxpr2(closed)
        context: Any = sharding_impls.ShardingContext(num_devices=1)
        if replicas:
            mesh: Any = jax.sharding.AbstractMesh((replicas,), (RANKS,))
            context = sharding_impls.SPMDAxisContext(mesh, frozenset({RANKS}))
        module = jax_mlir.lower_jaxpr_to_module(
            "kernel",
            closed,
            num_const_args=0,
            in_avals=closed.in_avals,
            ordered_effects=[],
            platforms=[platform],
            backend=_NoBackend(),
            axis_context=context,
            donated_args=[False] * len(operands),
            lowering_parameters=jax_mlir.LoweringParameters(override_lowering_rules=_interpreted(platform)),
            **_result_types(closed),
        ).module
    if replicas:
        _number_replicas(module)
    return module


def _result_types(closed: Any) -> dict[str, Any]:
    """Return the types of results as lowering wants them said: jax 0.12 does, older releases read them themselves."""
    wanted = "out_avals" in inspect.signature(jax_mlir.lower_jaxpr_to_module).parameters
    return {"out_avals": closed.out_avals} if wanted else {}


def _interpreted(platform: str) -> Any:
    """Return the rule that has Pallas kernels interpreted on a CPU; None elsewhere, and where there is no Pallas."""
    pallas_call: Any = sys.modules.get("jax._src.pallas.pallas_call")
    if platform != "cpu" or pallas_call is None:
        return None

    def interpret(context: Any, *operands: Any, interpret: Any, **parameters: Any) -> Any:
        return pallas_call._pallas_call_lowering(context, *operands, interpret=interpret or True, **parameters)

    return ((pallas_call.pallas_call_p, interpret),)


@contextlib.contextmanager
def plain_settings() -> Iterator[None]:
    """Trace what is inside as JAX does by default, but keep 64-bit arrays: numbers and new arrays have 32 bits."""
    with jax.enable_x64(False), config.explicit_x64_dtypes("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def _number_replicas(module: ir.Module) -> None:
    """Let collectives act among replicas: JAX says them of partitions, each under a channel and by global numbers."""
    for operation in operations(module):
        for attribute in ("channel_handle", "use_global_device_ids"):
            if attribute in operation.attributes:
                del operation.attributes[attribute]
        if operation.operation.name == "stablehlo.partition_id":
            with operation.context, operation.location, ir.InsertionPoint(operation):
                replica = stablehlo.ReplicaIdOp()
            operation.results[0].replace_all_uses_with(replica.result)
            operation.operation.erase()


def settings() -> tuple[object, ...]:
    """Return the settings of JAX that a trace in this thread depends on, as far as they are plain values."""
    return tuple(v if isinstance(v, _PLAIN) else type(v).__name__ for v in config.trace_context())


def new_context() -> ir.Context:
    """Make an MLIR context with the dialects that JAX and XLA speak."""
    return jax_mlir.make_ir_context()


def parse(bytecode: bytes, context: ir.Context) -> ir.Module:
    """Parse MLIR bytecode or text into a module."""
    with context:
        return ir.Module.parse(bytecode)


def to_bytecode(module: ir.Module) -> bytes:
    """Write the module as MLIR bytecode, locations included."""
    sink = io.BytesIO()
    module.operation.write_bytecode(sink)
    return sink.getvalue()


def as_text(bytecode: bytes) -> str:
    """Print MLIR bytecode as text, with locations; large constants are elided."""
    module = parse(bytecode, new_context())
    return str(module.operation.get_asm(enable_debug_info=True, large_elements_limit=64))


def outline(bytecode: bytes) -> list[str]:
    """List the operations of MLIR bytecode in their order: names, types of results, and names of their locations."""
    lines, module = [], parse(bytecode, new_context())
    for operation in operations(module):
        types = ", ".join(str(result.type) for result in operation.operation.results)
        named = re.search(r'"([^"]+:\d+/[^"]+)"', str(operation.location))
        groups = operation.attributes.get("replica_groups", "")
        words = (operation.operation.name, types, str(groups), f"at {named[1]}" if named else "")
        lines.append(" ".join(word for word in words if word))
    return lines


def digest(module: ir.Module) -> str:
    """Compute the SHA-256 of the module without its locations, in hexadecimal."""
    return hashlib.sha256(without_locations(module)).hexdigest()


def without_locations(module: ir.Module) -> bytes:
    """Write the module as MLIR bytecode that does not say where its operations come from."""
    with module.context:
        bare = ir.Module.parse(to_bytecode(module))
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(bare.operation)
    return to_bytecode(bare)


def operations(module: ir.Module) -> list[Any]:
    """Yield every operation of the module, regions included."""
    found: list[Any] = []

    def collect(operation: Any) -> ir.WalkResult:
        found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    return found


def functions(module: ir.Module) -> dict[str, Any]:
    """Return the module's functions by symbol."""
    return {ir.StringAttr(op.attributes["sym_name"]).value: op for op in module.body.operations}


def custom_calls(module: ir.Module) -> tuple[str, ...]:
    """Return the targets of the module's custom calls, sorted."""
    calls = [op for op in operations(module) if op.operation.name == "stablehlo.custom_call"]
    return tuple(sorted({ir.StringAttr(call.attributes["call_target_name"]).value for call in calls}))


def is_declaration(function: Any) -> bool:
    """Return True if a function has no body."""
    return not function.regions[0].blocks


def move_functions(source: ir.Module, target: ir.Module, main_symbol: str) -> None:
    """Append `source`'s functions to `target`: `@main` as the private `main_symbol`, the others prefixed by it.

    Both modules live in one context; `source` keeps its functions, renamed.
    """
    names = {name: main_symbol if name == "main" else f"{main_symbol}__{name}" for name in functions(source)}
    with source.context:
        for operation in operations(source):
            if operation.operation.name == "func.call":
                callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
                operation.attributes["callee"] = ir.FlatSymbolRefAttr.get(names[callee])
        for name, function in functions(source).items():
            function.attributes["sym_name"] = ir.StringAttr.get(names[name])
            function.attributes["sym_visibility"] = ir.StringAttr.get("private")
            target.body.append(function.operation.clone())


def alias_results(function: Any, aliases: Mapping[int, int]) -> None:
    """Let results take the memory of arguments, by number: XLA's `tf.aliasing_output`."""
    with function.context:
        given = function.attributes.get("arg_attrs", [])
        attributes = [{named.name: named.attr for named in each} for each in given]
        attributes = attributes or [{} for _ in function.arguments]
        for argument, result in aliases.items():
            number = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), result)
            attributes[argument]["tf.aliasing_output"] = number
        function.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(each) for each in attributes])


def replace_constant(operation: Any) -> None:
    """Put a stablehlo.constant in the place of a constant of another dialect, of tensor type."""
    with operation.context, operation.location, ir.InsertionPoint(operation):
        constant = stablehlo.ConstantOp(operation.attributes["value"])
    operation.results[0].replace_all_uses_with(constant.result)
    operation.operation.erase()


def replace_broadcasting(operation: Any) -> None:
    """Put StableHLO's elementwise operation in the place of CHLO's broadcasting one, on operands of one shape.

    All shapes are static. XLA would do the same, but its pass moves constants out of the comparators of sorts,
    which its export then refuses.
    """
    result = ir.RankedTensorType(operation.results[0].type)
    name = operation.operation.name.removeprefix("chlo.broadcast_")
    with operation.context, operation.location, ir.InsertionPoint(operation):
        operands = [_broadcast(operand, result) for operand in operation.operands]
        if name == "compare":
            replacement = _compare(operation, operands)
        else:
            replacement = ir.Operation.create(f"stablehlo.{name}", results=[result], operands=operands).result
    operation.results[0].replace_all_uses_with(replacement)
    operation.operation.erase()


def replace_dynamic_reshape(operation: Any) -> None:
    """Put a reshape in the place of a dynamic one whose result's shape is static."""
    with operation.context, operation.location, ir.InsertionPoint(operation):
        reshaped = stablehlo.ReshapeOp(operation.results[0].type, operation.operands[0])
    operation.results[0].replace_all_uses_with(reshaped.result)
    operation.operation.erase()


def replace_dynamic_slice(operation: Any) -> None:
    """Put a slice in the place of a dynamic one whose bounds are constants."""
    source, *bounds = operation.operands
    numbers = [[int(n) for n in ir.DenseIntElementsAttr(bound.owner.attributes["value"])] for bound in bounds]
    with operation.context, operation.location, ir.InsertionPoint(operation):
        arrays = [ir.DenseI64ArrayAttr.get(each) for each in numbers]
        replacement = stablehlo.SliceOp(source, *arrays)
    operation.results[0].replace_all_uses_with(replacement.result)
    operation.operation.erase()


def replace_dynamic_broadcast(operation: Any) -> None:
    """Put a broadcast in the place of a dynamic one whose result's shape is static."""
    operand, result = operation.operands[0], ir.RankedTensorType(operation.results[0].type)
    replacement = operand
    if ir.RankedTensorType(operand.type).shape != result.shape:
        with operation.context, operation.location, ir.InsertionPoint(operation):
            dimensions = operation.attributes["broadcast_dimensions"]
            replacement = stablehlo.BroadcastInDimOp(result, operand, dimensions).result
    operation.results[0].replace_all_uses_with(replacement)
    operation.operation.erase()


def erase_if_unused(operation: Any) -> bool:
    """Erase an operation without side effects if nothing uses it; return True if it was erased."""
    unused = all(next(iter(result.uses), None) is None for result in operation.results)
    if unused:
        operation.operation.erase()
    return unused


def _broadcast(operand: Any, result: ir.RankedTensorType) -> Any:
    own = ir.RankedTensorType(operand.type)
    if own.shape == result.shape:
        return operand
    dimensions = ir.DenseI64ArrayAttr.get(list(range(result.rank - own.rank, result.rank)))
    wanted = ir.RankedTensorType.get(result.shape, own.element_type)
    return stablehlo.BroadcastInDimOp(wanted, operand, dimensions).result


def _compare(operation: Any, operands: list[Any]) -> Any:
    def word(attribute: str) -> str:
        return str(operation.attributes[attribute]).split()[-1].rstrip(">")

    left, right = operands
    # torch-mlir says SIGNED of booleans, which XLA refuses.
    kind = "UNSIGNED" if element_type(left) == "i1" else word("compare_type")
    return stablehlo.CompareOp(
        left,
        right,
        stablehlo.ComparisonDirectionAttr.get(word("comparison_direction")),
        compare_type=stablehlo.ComparisonTypeAttr.get(kind),
    ).result


def element_type(value: Any) -> str:
    """Return the element type of an MLIR tensor value, as MLIR prints it."""
    return str(ir.RankedTensorType(value.type).element_type)


def set_precision(operation: Any, precision: str) -> None:
    """Give a contraction the StableHLO precision `DEFAULT`, `HIGH` or `HIGHEST` for both operands."""
    dialect = operation.operation.name.partition(".")[0]
    with operation.context:
        attribute = ir.Attribute.parse(f"#{dialect}<precision {precision}>")
        operation.attributes["precision_config"] = ir.ArrayAttr.get([attribute, attribute])


def has_highest_precision(operation: Any) -> bool:
    """Tell whether a contraction asks for StableHLO's precision `HIGHEST`, of any operand."""
    attributes = operation.attributes
    return "precision_config" in attributes and "HIGHEST" in str(attributes["precision_config"])


def array_type(value: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an MLIR tensor value."""
    shape, element = ir.RankedTensorType(value.type).shape, element_type(value)
    name = _NUMPY.get(element) or re.sub("^u?i", lambda sign: sign[0].replace("i", "int"), element)
    name = name.replace("f8", "float8_").lower()
    return jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(name))


def add_function(
    module: ir.Module,
    symbol: str,
    function: Callable[..., Any],
    operands: Sequence[jax.ShapeDtypeStruct],
    platform: str,
) -> None:
    """Append a function of arrays with one result to the module, as the private `symbol`."""
    lowered = lower_function(lambda *given: (function(*given),), operands, platform)
    move_functions(parse(to_bytecode(lowered), module.context), module, symbol)


def replace_by_call(operation: Any, symbol: str) -> None:
    """Put a call of one of the module's functions, with the same operands, in the place of an operation."""
    with operation.context, operation.location, ir.InsertionPoint(operation):
        call = ir.Operation.create(
            "func.call",
            results=[result.type for result in operation.results],
            operands=list(operation.operands),
            attributes={"callee": ir.FlatSymbolRefAttr.get(symbol)},
        )
    operation.results[0].replace_all_uses_with(call.result)
    operation.operation.erase()


def convert_operands(operation: Any) -> None:
    """Convert the operands of an operation to the element type of its result."""
    wanted = ir.RankedTensorType(operation.results[0].type).element_type
    for place, operand in enumerate(operation.operands):
        own = ir.RankedTensorType(operand.type)
        if own.element_type != wanted:
            with operation.context, operation.location, ir.InsertionPoint(operation):
                converted = stablehlo.ConvertOp(ir.RankedTensorType.get(own.shape, wanted), operand)
            operation.operands[place] = converted.result


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


def dialects(operations_: Iterable[Any]) -> set[str]:
    """Return the dialects that the operations belong to."""
    return {operation.operation.name.partition(".")[0] for operation in operations_}
