"""Operations of a module, replaced by others or changed in place."""

from __future__ import annotations

from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from .attributes import element_type


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


def set_precision(operation: Any, precision: str) -> None:
    """Give a contraction the StableHLO precision `DEFAULT`, `HIGH` or `HIGHEST` for both operands."""
    dialect = operation.operation.name.partition(".")[0]
    with operation.context:
        attribute = ir.Attribute.parse(f"#{dialect}<precision {precision}>")
        operation.attributes["precision_config"] = ir.ArrayAttr.get([attribute, attribute])


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
