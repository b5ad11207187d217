"""MLIR modules: read, written, walked, and put together."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jax._src.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir, passmanager

MLIRError = ir.MLIRError


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


def dialects(operations_: Iterable[Any]) -> set[str]:
    """Return the dialects that the operations belong to."""
    return {operation.operation.name.partition(".")[0] for operation in operations_}


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
