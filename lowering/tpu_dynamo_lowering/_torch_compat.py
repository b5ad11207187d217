"""The one door of lowering to PyTorch's private APIs: a rename upstream is a change of this file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._decomp import global_decomposition_table
from torch._higher_order_ops.effects import with_effects
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph
from torch._library.custom_ops import OPDEFS, CustomOpDef
from torch._library.fake_class_registry import FakeScriptObject
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functionalize
from torch.fx import Graph, GraphModule, Node
from torch.fx._lazy_graph_module import _LazyGraphModule, _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import _len_torch_function_stack, _pop_mode, _push_mode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._sympy import functions as symbolic_functions

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "HigherOrderOperator",
    "OpOverload",
    "computing",
    "copies_of_views",
    "custom_implementation",
    "defining",
    "fake_mode",
    "functional_graph",
    "graph_module_of",
    "invoke_subgraph",
    "is_view",
    "operators_of",
    "outside_of_function_modes",
    "overload_if_defined",
    "overloads_of",
    "pytree",
    "run_and_save_rng_state",
    "run_with_rng_state",
    "suggest_memory_format",
    "symbolic_functions",
    "torch_decomposition",
    "torch_decompositions",
    "with_effects",
]


_READ_OTHERWISE = {torch.ops.aten._conj.default, torch.ops.aten._neg_view.default}


@contextlib.contextmanager
def defining(definitions: Mapping[OpOverload, Callable[..., Any]]) -> Iterator[None]:
    """Trace with operators that come apart before autograd as `definitions` say, instead of as torch does."""
    before = {operator: operator.py_kernels[torch._C.DispatchKey.Autograd] for operator in definitions}

    def define(functions: Mapping[OpOverload, Callable[..., Any]]) -> None:
        for operator, function in functions.items():
            operator.py_kernels[torch._C.DispatchKey.Autograd] = function
            operator._dispatch_cache.clear()

    define(definitions)
    try:
        yield
    finally:
        define(before)


def fake_mode() -> FakeTensorMode:
    """Return a fresh mode for fake tensors of concrete sizes; operators may mix them with real constants."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@contextlib.contextmanager
def outside_of_function_modes() -> Iterator[None]:
    """Run what is inside without the user's torch function modes.

    `torch.set_default_device` and `with torch.device(...)` are such modes: they would choose the device of tensors that
    torch's decompositions and we make on the way.
    """
    modes = [_pop_mode() for _ in range(_len_torch_function_stack())]
    try:
        yield
    finally:
        for mode in reversed(modes):
            _push_mode(mode)


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Compute what is called inside at once, whatever modes, autocast among them, are on; without gradients."""
    with _disable_current_modes(), torch.no_grad(), torch._C._DisableAutocast():
        yield


def graph_module_of(root: torch.nn.Module, graph: Graph) -> GraphModule:
    """Return a GraphModule with the attributes of `root`; its Python code is made only when it is called.

    Most of ours are never called, and Python cannot read FX's code of an overload that has a keyword's name, as
    `torch.ops.aten.random.from`.
    """
    return _LazyGraphModule(root, graph)


def functional_graph(function: Callable[..., Any], tensors: list[torch.Tensor], mode: FakeTensorMode) -> GraphModule:
    """Trace `function(*tensors)` on fake tensors of `mode` into an ATen graph without in-place operators.

    Composite operators of torch's dispatcher come apart; views stay views.
    """
    with _as_outside_of_kernels(), mode, torch.no_grad(), _use_lazy_graph_module(True):
        # Tracing tells its inputs apart by identity, and nodes that came of one body share their fake tensor.
        distinct = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in tensors]
        return make_fx(functionalize(function, remove="mutations"))(*distinct)


def _as_outside_of_kernels() -> Any:
    """Return a context with the dispatch keys of a user's code: a device's kernel runs without the keys that trace."""
    autocast = [key for name, key in torch._C.DispatchKey.__members__.items() if name.startswith("Autocast")]
    outside = torch._C.DispatchKeySet(torch._C.DispatchKey.Undefined)
    for key in autocast:
        outside = outside | torch._C.DispatchKeySet(key)
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), outside)


def opaque_type(value: object) -> str | None:
    """Return the name of the type of an object that a graph only passes on, as a DeviceMesh; None for any other."""
    if isinstance(value, FakeScriptObject):
        return type(value.real_obj).__name__
    return type(value).__name__ if type(value).__name__ == "ProcessGroup" else None


def torch_decomposition(target: object) -> Callable[..., Any] | None:
    """Return torch's own decomposition of an operator, or None where it has none.

    Composite operators come apart by their own definition; Dynamo leaves some in a graph, as in the arithmetic on
    Python floats that it turns into tensors.
    """
    if not isinstance(target, OpOverload):
        return None
    if target in global_decomposition_table["post_autograd"]:
        return global_decomposition_table["post_autograd"][target]
    return target.decompose if target._can_decompose() else None


def torch_decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Return the table behind `torch_decomposition`, to which users may have added entries."""
    return global_decomposition_table["post_autograd"]


def custom_implementation(target: object) -> Callable[..., Any] | None:
    """Return the Python function behind an operator that torch itself made by torch.library.custom_op; None for others.

    Other libraries' functions cannot be traced: they may leave PyTorch (for NumPy, say) unnoticed, and then the
    program would hold numbers from the trace.
    """
    definition = OPDEFS.get(target._schema.name) if isinstance(target, OpOverload) else None
    if definition is None or not definition._init_fn.__module__.startswith("torch."):
        return None
    return definition._init_fn


def operators_of(value: object) -> list[OpOverload] | None:
    """Return the overloads that a value stands for: an overload, a packet of them, a custom_op; None for others."""
    if isinstance(value, OpOverload):
        return [value]
    if isinstance(value, CustomOpDef):
        return [value._opoverload]
    if isinstance(value, OpOverloadPacket):
        return [getattr(value, overload) for overload in value.overloads()]
    return None


def overloads_of(name: str) -> list[OpOverload]:
    """Return the overloads of an operator named as in its schema, `library::operator`; none if it is not defined."""
    library, _, operator = name.partition("::")
    packet = getattr(getattr(torch.ops, library), operator, None)
    return [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]


def overload_if_defined(name: str) -> tuple[OpOverload, ...]:
    """Return the overload named `library::operator.overload`, or nothing if this torch does not have it."""
    packet, _, overload = name.partition(".")
    return tuple(each for each in overloads_of(packet) if each._overloadname == overload)


def copies_of_views() -> list[tuple[OpOverload, OpOverload]]:
    """List the ATen operators that copy what a view reads, each with the view that takes the same arguments."""
    found = []
    # Of thousands of operators: what is not asked for is not made in Python.
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        packet, _, overload = name.removeprefix("aten::").partition(".")
        if not (name.startswith("aten::") and packet.endswith("_copy")):
            continue
        view = getattr(getattr(torch.ops.aten, packet.removesuffix("_copy"), None), overload or "default", None)
        if view is None or not view.is_view:
            continue
        copy = getattr(getattr(torch.ops.aten, packet), overload or "default")
        if [(a.name, str(a.type)) for a in copy._schema.arguments] == [
            (a.name, str(a.type)) for a in view._schema.arguments
        ]:
            found.append((copy, view))
    return found


def is_view(node: Node) -> bool:
    """Say whether a node's result, or each of its results, is by its schema a view of its first argument's memory.

    Views that read the memory otherwise (conjugated, negated, as another dtype) are none.
    """
    if not isinstance(node.target, OpOverload) or len(node.target._schema.returns) != 1:
        return False
    alias = node.target._schema.returns[0].alias_info
    if alias is None or alias.is_write or not isinstance(node.args[0], Node) or node.target in _READ_OTHERWISE:
        return False
    values, base = pytree.tree_leaves(node.meta["val"]), node.args[0].meta["val"]
    return isinstance(base, torch.Tensor) and all(
        isinstance(value, torch.Tensor) and value.dtype == base.dtype for value in values
    )
