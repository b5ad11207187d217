"""The tables that say how each ATen operator is lowered, keyed by OpOverload.

The families' modules fill them when they are imported: `rewrites/` (an operator written in terms of others),
`kernels/` (an operator written in JAX), `decompositions.py` (torch's own decompositions that suit XLA), and
`torch_mlir_ops.py` (operators of the above that torch-mlir's patterns lower just as well, and faster).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import torch
from torch.fx import Node

from ._torch_compat import HigherOrderOperator, OpOverload
from .errors import tensors_of

F = TypeVar("F", bound=Callable[..., Any])


class How(StrEnum):
    """The ways to StableHLO."""

    TORCH_MLIR = "torch-mlir"
    REWRITE = "rewrite"
    DECOMPOSITION = "decomposition"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Lowering:
    """How one operator reaches StableHLO.

    function: of the operator's own parameters; on tensors for a rewrite or decomposition, on JAX arrays for a
    kernel. reason: why this way, one sentence. draws: whether it draws random numbers; then its function takes a
    key first, an int64[1].
    """

    overload: OpOverload | str
    how: How
    reason: str
    function: Callable[..., Any]
    draws: bool = False


TABLE: dict[OpOverload, Lowering] = {}

# Operators of other libraries, by the name in their schema: they are defined when that library is imported, so their
# overloads do not exist yet.
FOREIGN: dict[str, Lowering] = {}

# Higher-order operators, which have no overloads; the functions of kernels take the graphs as GraphModules.
HIGHER_ORDER: dict[HigherOrderOperator, Lowering] = {}

# Definitions of operators that torch takes apart, wrongly, before autograd sees them.
BEFORE_AUTOGRAD: dict[OpOverload, Callable[..., Any]] = {}

# Operators with a good torch-mlir pattern, for calls in which every tensor has one of PATTERN_DTYPES.
PATTERNS: set[OpOverload] = set()

# Those among them that only say a shape.
SHAPE_PATTERNS: set[OpOverload] = set()

# Most of torch-mlir's patterns refuse complex numbers, and its unsigned integers are not StableHLO's.
PATTERN_DTYPES = frozenset(
    (
        torch.bool, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    )
)  # fmt: skip


# Dtypes of results whose operands must be of one dtype for torch-mlir.
_CAREFUL = frozenset((torch.bool, torch.float16, torch.bfloat16))


def choose(node: Node) -> Lowering | How | None:
    """How one call is lowered: by torch-mlir, or as its entry says; None where the table has nothing."""
    if isinstance(node.target, HigherOrderOperator):
        return HIGHER_ORDER.get(node.target)
    if not isinstance(node.target, OpOverload):
        return None
    if node.target in PATTERNS and _pattern_takes(node):
        return How.TORCH_MLIR
    return TABLE.get(node.target) or FOREIGN.get(node.target._schema.name)


def _pattern_takes(node: Node) -> bool:
    # Numbers that a dtype cannot hold wrap around, which the kernels know.
    if node.target not in SHAPE_PATTERNS and not _fit(node):
        return False
    # Tensors without elements or dimensions are where the shape patterns fail: cat of an empty vector, transpose of a
    # scalar.
    given = [value for each in node.all_input_nodes for value in tensors_of(each)]
    everything = (*given, *tensors_of(node))
    # Of several dtypes torch-mlir compares in the widest, where eager casts a 0-d tensor to the dtype of the other; and
    # it rounds operands to half precision first.
    result, kinds = everything[-1].dtype, {value.dtype for value in given}
    floats = {kind for kind in kinds if kind.is_floating_point}
    if node.target not in SHAPE_PATTERNS and len(kinds if result == torch.bool else floats) > 1 and result in _CAREFUL:
        return False
    return all(value.dtype in PATTERN_DTYPES and value.numel() for value in everything) and (
        node.target not in SHAPE_PATTERNS or all(value.ndim for value in given)
    )


def _fit(node: Node) -> bool:
    """Whether a call's numbers fit into the dtypes of the tensors that they meet, and whole ones into 64 bits."""
    numbers = [n for n in (*node.args, *node.kwargs.values()) if isinstance(n, int | float)]
    dtypes = {value.dtype for each in node.all_input_nodes for value in tensors_of(each)}
    if torch.bool in dtypes and any(type(n) is not bool for n in numbers):
        return False
    whole = {d for d in dtypes if not d.is_floating_point and not d.is_complex and d != torch.bool} | {torch.int64}
    bounds = [torch.iinfo(d) for d in whole]
    if not all(b.min <= n <= b.max for n in numbers if isinstance(n, int) for b in bounds):
        return False
    halves = [torch.finfo(d).max for d in dtypes if d.is_floating_point and d.itemsize == 2]
    return not any(math.isfinite(n) and abs(n) > most for n in numbers for most in halves)


def add(lowering: Lowering) -> None:
    """Enter one lowering.

    Raises TypeError for a key that is no OpOverload, for a second entry of the same operator, and for a function whose
    parameters are not those of the schema.
    """
    if not isinstance(lowering.overload, OpOverload):
        raise TypeError(f"{lowering.overload}: the table is keyed by overload, as in torch.ops.aten.add.Tensor")
    if lowering.how is not How.DECOMPOSITION:  # torch's own are called by torch with the same arguments
        _check_parameters(lowering.function, lowering.overload)
    if lowering.overload in TABLE:
        raise TypeError(f"{lowering.overload} has a lowering already: {TABLE[lowering.overload].how}")
    TABLE[lowering.overload] = lowering


def _check_parameters(function: Callable[..., Any], overload: OpOverload) -> None:
    """Check that a function takes every call that a schema allows: names, defaults, and what may be positional.

    A function of *args or **kwargs binds them itself.
    """
    given = inspect.signature(function).parameters
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given.values()):
        return
    schema = overload._schema.arguments
    if [*given] != [a.name for a in schema]:
        raise TypeError(
            f"{function.__qualname__}{[*given]} is not spelt as the schema of {overload}: {[a.name for a in schema]}"
        )
    for parameter, argument in zip(given.values(), schema, strict=True):
        what = f"{function.__qualname__}: parameter {argument.name!r} of {overload}"
        if argument.has_default_value() and not _is_default(parameter.default, argument):
            raise TypeError(f"{what} has the default {argument.default_value!r} in the schema")
        if parameter.kind is parameter.KEYWORD_ONLY and not argument.kwarg_only:
            raise TypeError(f"{what} may be positional in the schema")


def _is_default(value: Any, argument: Any) -> bool:
    expected = argument.default_value
    if isinstance(value, torch.dtype):  # which a schema holds as a number
        return "ScalarType" in str(argument.real_type) and isinstance(expected, int)
    return (
        list(value) == expected
        if isinstance(value, tuple)
        else value is not inspect.Parameter.empty and value == expected
    )


def _first_sentence(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    if not text:
        raise TypeError(f"{function.__qualname__} has no docstring to print in docs/ops.md")
    return text.split("\n\n")[0].replace("\n", " ")


def _adder(how: How, overloads: Iterable[OpOverload]) -> Callable[[F], F]:
    def enter(function: F) -> F:
        for overload in overloads:
            add(Lowering(overload, how, _first_sentence(function), function))
        return function

    return enter


def rewrites(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of tensors that says `overloads` in other ATen operators.

    It is traced for the shapes at hand, so it may branch on them. Its parameters are the schema's, by name and
    default.
    """
    return _adder(How.REWRITE, overloads)


def before_autograd(overload: OpOverload) -> Callable[[F], F]:
    """Register a differentiable function of tensors that tracing puts in the place of torch's definition."""

    def enter(function: F) -> F:
        BEFORE_AUTOGRAD[overload] = function
        return function

    return enter


def kernel(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of JAX arrays that computes `overloads`.

    Parameters are the schema's, by name and default; tensors arrive as traced arrays, the others as the Python values
    in the graph. Its results
    are cast to the dtypes that the operator has in PyTorch; their shapes must already agree.
    """
    return _adder(How.KERNEL, overloads)


def higher_order_kernel(target: HigherOrderOperator) -> Callable[[F], F]:
    """Register a function of JAX arrays and GraphModules that computes a higher-order operator."""
    return _higher_order_adder(How.KERNEL, target)


def higher_order_rewrites(target: HigherOrderOperator) -> Callable[[F], F]:
    """Register a function of tensors that says a higher-order operator without graphs in ATen operators."""
    return _higher_order_adder(How.REWRITE, target)


def _higher_order_adder(how: How, target: HigherOrderOperator) -> Callable[[F], F]:
    def enter(function: F) -> F:
        if target in HIGHER_ORDER:
            raise TypeError(f"{target} has a lowering already")
        HIGHER_ORDER[target] = Lowering(str(target), how, _first_sentence(function), function)
        return function

    return enter


def foreign_kernel(name: str) -> Callable[[F], F]:
    """Register a function of JAX arrays that computes another library's operator, named as `library::operator`."""

    def enter(function: F) -> F:
        if name in FOREIGN:
            raise TypeError(f"{name} has a lowering already")
        FOREIGN[name] = Lowering(name, How.KERNEL, _first_sentence(function), function)
        return function

    return enter


def random_kernel(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of JAX arrays that draws `overloads` from a key.

    Its first parameter is the key, an int64[1] array. The others are those of the schema's parameters that matter,
    by name, with an underscore behind the name of a Python keyword. Calls with a generator are refused: a program
    draws from the default one.
    """

    def enter(function: F) -> F:
        wanted = {p.removesuffix("_"): p for p in list(inspect.signature(function).parameters)[1:]}
        for overload in overloads:
            schema = [a.name for a in overload._schema.arguments]
            if not wanted.keys() <= set(schema):
                raise TypeError(f"{function.__qualname__} names parameters that {overload} does not have: {schema}")
            add(
                Lowering(overload, How.KERNEL, _first_sentence(function), _bind(function, overload, wanted), draws=True)
            )
        return function

    return enter


def _bind(function: Callable[..., Any], overload: OpOverload, wanted: dict[str, str]) -> Callable[..., Any]:
    defaults = {a.name: a.default_value for a in overload._schema.arguments}

    def draw(key: Any, *args: Any, **kwargs: Any) -> Any:
        given = defaults | dict(zip(defaults, args, strict=False)) | kwargs
        if given.get("generator") is not None:
            raise NotImplementedError("a program draws from the default generator only, not from one that is passed")
        return function(key, **{parameter: given[name] for name, parameter in wanted.items()})

    draw.__module__ = function.__module__  # whose it is
    return draw
