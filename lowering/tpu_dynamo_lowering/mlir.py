# pyright: reportAttributeAccessIssue=false
"""The one door to torch-mlir: an expanded FX graph becomes StableHLO by our own list of passes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo
from torch_mlir.dialects import func as func_dialect
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.extras import fx_importer
from torch_mlir.passmanager import PassManager

from .diagnostics import explain
from .errors import LoweringFailed, tensors_of
from .kernels.call import META, KernelCall
from .source_lines import operation_name, user_line
from .subgraphs import operands

# Read top to bottom. The stock pipeline first decomposes: that is where it gives wrong values, needs unbounded
# memory and crashes, and our graphs arrive decomposed. CHLO stays: XLA lowers erf or top-k better than
# StableHLO's passes do. The backend contract is not verified, since it refuses calls of kernels.
PASSES = (
    "func.func(convert-torch-to-stablehlo{enable-static-shape=true})",
    "func.func(convert-torch-to-arith)",
    "canonicalize",
    "cse",
    "torch-func-backend-type-conversion-for-stablehlo",
    "canonicalize",
    "func.func(torch-finalizing-backend-type-conversion-for-stablehlo)",
    "canonicalize",
    "func.func(shape-legalize-to-stablehlo)",
    "func.func(stablehlo-legalize-deprecated-ops{fail-on-unused=false})",
    "canonicalize",
)


class _NodeImporter(fx_importer.GraphNodeImporter):
    """torch-mlir's importer, which besides emits a call for each node that a kernel computes."""

    def _import_literal(self, py_value: Any, info: Any = None) -> ir.Value:
        return (
            self._tensor_literal(py_value)
            if isinstance(py_value, torch.Tensor)
            else super()._import_literal(py_value, info)
        )

    def _tensor_literal(self, tensor: torch.Tensor) -> ir.Value:
        """Make a constant of its bytes; torch-mlir makes a list of numbers and casts booleans (no pattern)."""
        data = tensor.detach().cpu().contiguous()
        if data.dtype == torch.bool:
            attribute = ir.DenseElementsAttr.get(data.numpy())
        else:
            raw = data.reshape(-1).view(torch.uint8).numpy()
            element = self._cc.dtype_to_type(data.dtype)
            attribute = ir.DenseElementsAttr.get(raw, type=ir.RankedTensorType.get(list(data.shape), element))
        vtensor = self._cc.get_vtensor_type(data.shape, data.dtype)
        return ir.Operation.create("torch.vtensor.literal", results=[vtensor], attributes={"value": attribute}).result

    def _import_argument(self, loc: ir.Location, arg: Any, expected_jit_type: Any = None) -> ir.Value:
        """Import an argument; torch-mlir's importer makes a constant anew at each use, and refuses the second."""
        if isinstance(arg, Node) and arg.op == "get_attr" and (arg, 0) in self._v:
            with loc:
                return self._convert_type(self.resolve_node_value(arg), expected_jit_type)
        return super()._import_argument(loc, arg, expected_jit_type)

    def _import_torch_op_overload(self, loc: ir.Location, node: Node, concrete_target: Any = None) -> None:
        if META in node.meta:
            self._call_kernel(loc, node, node.meta[META])
        else:
            super()._import_torch_op_overload(loc, node, concrete_target)

    def _import_hop(self, loc: ir.Location, node: Node, hop: Any) -> None:
        self._call_kernel(loc, node, node.meta[META])

    def _call_kernel(self, loc: ir.Location, node: Node, call: KernelCall) -> None:
        operation = ir.Operation.create(
            "func.call",
            results=[self._cc.value_info_to_type(value) for value in tensors_of(node)],
            operands=[self._import_argument(loc, operand) for operand in operands(node)],
            attributes={"callee": ir.FlatSymbolRefAttr.get(call.symbol)},
            loc=loc,
        )
        value = node.meta["val"]
        if isinstance(value, list | tuple):
            self._multi_result_nodes.add(node)
        # A gradient that is not wanted is None among the operator's results, and no result of the kernel.
        places = [i for i, v in enumerate(value) if v is not None] if isinstance(value, list | tuple) else [0]
        for index, result in zip(places, operation.results, strict=True):
            self.bind_node_value(node, result, index)


class _Types(fx_importer.ContextCache):
    """torch-mlir's types and locations, with the unsigned integers and the names that its importer leaves out."""

    __slots__ = ()

    def get_node_location(self, node: Node) -> ir.Location | None:
        """Return the location of the user's line, under a name that contains it too.

        XLA keeps of a location its name and the file beneath it; a chain of callers it drops. When it inlines a call it
        puts the call's name before the names in the body, so that the code of a kernel tells whose line it computes.
        """
        line = user_line(node)
        if line is None:
            return super().get_node_location(node)
        place = ir.Location.file(line.file, line.line, 0, context=self._c)
        return ir.Location.name(operation_name(line, node), place, context=self._c)

    def dtype_to_type(self, dtype: torch.dtype) -> ir.Type:
        unsigned = {torch.uint16: "ui16", torch.uint64: "ui64"}.get(dtype)
        return ir.Type.parse(unsigned, self._c) if unsigned else super().dtype_to_type(dtype)


def _import(graph: Graph, kernels: Mapping[str, KernelCall]) -> ir.Module:
    context = ir.Context()
    torch_dialect.register_dialect(context)
    _stablehlo.register_dialect(context, True)
    importer = fx_importer.FxImporter(context=context, graph_node_importer_cls=_NodeImporter, config_check=False)
    importer._cc = _Types(context, py_attr_tracker=importer._py_attr_tracker)
    importer.import_stateless_graph(graph)
    with context, ir.Location.unknown():
        for call in kernels.values():
            types = [
                [importer._cc.get_vtensor_type(torch.Size(s), d) for s, d in side]
                for side in (call.operands, call.results)
            ]
            insertion = ir.InsertionPoint(importer.module.body)
            func_dialect.FuncOp(call.symbol, ir.FunctionType.get(*types), ip=insertion, visibility="private")
    return importer.module


def torch_dialect_text(graph_module: GraphModule, kernels: Mapping[str, KernelCall]) -> str:
    """Print the graph in the torch dialect, as text with locations; large constants are elided."""
    module = _import(graph_module.graph, kernels)
    return module.operation.get_asm(enable_debug_info=True, large_elements_limit=64)


def to_stablehlo(graph_module: GraphModule, kernels: Mapping[str, KernelCall]) -> bytes:
    """Lower the graph to MLIR bytecode: StableHLO and CHLO, arith constants, and declarations of `kernels`.

    Every operator of the graph must be one of torch_mlir_ops.py or carry a kernel call. Raises LoweringFailed
    with the user's line when a pass refuses.
    """
    graph = graph_module.graph
    try:
        module = _import(graph, kernels)
    except (NotImplementedError, TypeError, RuntimeError, KeyError, AssertionError) as error:
        raise LoweringFailed("importing the graph into torch-mlir", f"{type(error).__name__}: {error}") from error
    try:
        with module.context:
            PassManager.parse(f"builtin.module({','.join(PASSES)})").run(module.operation)
    except ir.MLIRError as error:
        artifacts = {"torch.mlir": torch_dialect_text(graph_module, kernels), "diagnostics.txt": str(error)}
        raise LoweringFailed("torch-mlir", *explain(error), artifacts) from error
    sink = io.BytesIO()
    module.operation.write_bytecode(sink)
    return sink.getvalue()
