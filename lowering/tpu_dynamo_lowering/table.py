"""The tables that say how each operator is lowered, and the decorators that enter functions into them.

`ops.py` imports the modules that fill them: `rewrites/` (an operator written in terms of others), `kernels/` (an
operator written in JAX), `decompositions.py` (torch's own decompositions that suit XLA), and `torch_mlir_ops.py`
(operators of the above that torch-mlir's patterns lower just as well, and faster). An entry that could not be right
is refused with a TypeError when its module is imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import torch

from ._torch_compat import HigherOrderOperator, OpOverload, overloads_of
from .schema_checks import mismatch

F = TypeVar("F", bound=Callable[..., Any])


class How(StrEnum):
    """The ways from an operator to StableHLO."""

    TORCH_MLIR = "torch-mlir"
    REWRITE = "rewrite"
    DECOMPOSITION = "decomposition"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Lowering:
    """One entry of the tables: how an operator reaches StableHLO.

    overload: the operator; the name in its schema (`library::operator`) for one of another library, and torch's name
    for a higher-order one. reason: what it computes or why this way, in one sentence, for docs/ops.md. function: takes
    the operator's own arguments; tensors for a rewrite or decomposition, JAX arrays for a kernel. draws: True if the
    operator draws random numbers; then the function takes a key before its arguments, an int64[1].
    """

    overload: OpOverload | str
    how: How
    reason: str
    function: Callable[..., Any]
    draws: bool = False


TABLE: dict[OpOverload, Lowering] = {}

# Operators of other libraries, by the name in their schema, for all of their overloads: those do not exist before that
# library is imported.
FOREIGN: dict[str, Lowering] = {}

# Higher-order operators, which have no overloads; the functions of kernels take the graphs as GraphModules.
HIGHER_ORDER: dict[HigherOrderOperator, Lowering] = {}

# Our definitions of operators that torch decomposes wrongly before autograd sees them.
BEFORE_AUTOGRAD: dict[OpOverload, Callable[..., Any]] = {}

# Operators with a good torch-mlir pattern, for calls in which every tensor has one of PATTERN_DTYPES.
PATTERNS: set[OpOverload] = set()

# The ones of PATTERNS that move values without computing any.
SHAPE_PATTERNS: set[OpOverload] = set()

# Most of torch-mlir's patterns refuse complex numbers, and its unsigned integers are not StableHLO's.
PATTERN_DTYPES = frozenset(
    (
        torch.bool, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    )
)  # fmt: skip


def all_lowerings() -> tuple[Lowering, ...]:
    """Return every entry: of ATen and prims operators, of other libraries' operators, of higher-order operators."""
    return (*TABLE.values(), *FOREIGN.values(), *HIGHER_ORDER.values())


def add(lowering: Lowering) -> None:
    """Enter the lowering of an ATen or prims operator.

    Raises TypeError for a key that is no OpOverload, for a second entry of one operator, and for a function whose
    parameters are not those of the schema.
    """
    overload = _checked_overload(lowering.overload)
    if lowering.how is not How.DECOMPOSITION:  # torch's own are called by torch with the same arguments
        _refuse_mismatch(lowering.function, overload)
    if overload in TABLE:
        raise TypeError(f"{overload} has a lowering already: {TABLE[overload].how}")
    TABLE[overload] = lowering


def _checked_overload(key: object) -> OpOverload:
    if not isinstance(key, OpOverload):
        raise TypeError(f"{key}: the table is keyed by overload, as in torch.ops.aten.add.Tensor")
    return key


def _refuse_mismatch(function: Callable[..., Any], overload: OpOverload) -> None:
    why = mismatch(function, overload)
    if why is not None:
        raise TypeError(why)


def _first_sentence(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    if not text and sys.flags.optimize < 2:  # `python -OO` has no docstrings
        raise TypeError(f"{function.__qualname__} has no docstring to print in docs/ops.md")
    return text.split("\n\n")[0].replace("\n", " ")


def _adder(how: How, overloads: Iterable[OpOverload]) -> Callable[[F], F]:
    def enter(function: F) -> F:
        for overload in overloads:
            add(Lowering(overload, how, _first_sentence(function), function))
        return function

    return enter


def rewrites(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of tensors that computes `overloads` with other ATen operators.

    It is traced for the shapes at hand, so it may branch on them. Its parameters are the schema's, by name and
    default.
    """
    return _adder(How.REWRITE, overloads)


def before_autograd(overload: OpOverload) -> Callable[[F], F]:
    """Register a differentiable function of tensors that replaces torch's definition of `overload` in tracing.

    Its parameters are the schema's, by name and default.
    """

    def enter(function: F) -> F:
        _refuse_mismatch(function, _checked_overload(overload))
        if overload in BEFORE_AUTOGRAD:
            raise TypeError(f"{overload} has a definition already")
        BEFORE_AUTOGRAD[overload] = function
        return function

    return enter


def kernel(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of JAX arrays that computes `overloads`.

    Its parameters are the schema's, by name and default. Tensors arrive as traced arrays, other arguments as the
    Python values in the graph. Its results are cast to the dtypes that the operator has in PyTorch; their shapes must
    already agree. It raises NotImplementedError for a call that it cannot compute.
    """
    return _adder(How.KERNEL, overloads)


def higher_order_kernel(target: HigherOrderOperator) -> Callable[[F], F]:
    """Register a function of JAX arrays and GraphModules that computes a higher-order operator."""
    return _higher_order_adder(How.KERNEL, target)


def higher_order_rewrites(target: HigherOrderOperator) -> Callable[[F], F]:
    """Register a function of tensors that computes a higher-order operator without graphs with ATen operators."""
    return _higher_order_adder(How.REWRITE, target)


def _higher_order_adder(how: How, target: HigherOrderOperator) -> Callable[[F], F]:
    def enter(function: F) -> F:
        if not isinstance(target, HigherOrderOperator):
            raise TypeError(f"{target} is no higher-order operator")
        if target in HIGHER_ORDER:
            raise TypeError(f"{target} has a lowering already")
        HIGHER_ORDER[target] = Lowering(str(target), how, _first_sentence(function), function)
        return function

    return enter


def foreign_kernel(name: str) -> Callable[[F], F]:
    """Register a function of JAX arrays that computes another library's operator, all overloads of it.

    name: as in the schema, `library::operator`. The parameters are the schema's, by name and default. They are checked
    here for an operator that exists, else by `foreign_mismatch` when a graph calls it: most libraries define their
    operators when they are imported, after us. Raises TypeError as `kernel` does.
    """

    def enter(function: F) -> F:
        library, _, operator = name.partition("::")
        if not library.isidentifier() or not operator.isidentifier() or library in ("aten", "prims"):
            raise TypeError(f"{name!r} is no name of another library's operator, as in torchvision::nms")
        for overload in overloads_of(name):
            _refuse_mismatch(function, overload)
        if name in FOREIGN:
            raise TypeError(f"{name} has a lowering already")
        FOREIGN[name] = Lowering(name, How.KERNEL, _first_sentence(function), function)
        return function

    return enter


def foreign_mismatch(lowering: Lowering, target: object) -> str | None:
    """Say why a kernel of another library's operator cannot take the calls of this overload; None if it can."""
    if isinstance(lowering.overload, str) and isinstance(target, OpOverload):
        return mismatch(lowering.function, target)
    return None


def random_kernel(*overloads: OpOverload) -> Callable[[F], F]:
    """Register a function of JAX arrays that draws `overloads` from a key.

    Its first parameter is `key`, an int64[1] array. The others are those of the schema's parameters that matter, by
    name, with an underscore behind the name of a Python keyword; the schema's defaults hold. Calls with a generator
    are refused: a program draws from the default one. Raises TypeError for other names, and as `kernel` does.
    """

    def enter(function: F) -> F:
        first, *others = inspect.signature(function).parameters
        if first != "key":
            raise TypeError(f"{function.__qualname__}: the first parameter is {first!r}, not 'key'")
        wanted = {p.removesuffix("_"): p for p in others}
        for overload in map(_checked_overload, overloads):
            schema = [a.name for a in overload._schema.arguments]
            if not wanted.keys() <= set(schema):
                raise TypeError(f"{function.__qualname__} names parameters that {overload} does not have: {schema}")
            add(
                Lowering(overload, How.KERNEL, _first_sentence(function), _bind(function, overload, wanted), draws=True)
            )
        return function

    return enter


def _bind(function: Callable[..., Any], overload: OpOverload, wanted: dict[str, str]) -> Callable[..., Any]:
    """Return a function that takes a key and a schema's arguments, and passes on the `wanted` ones by their names."""
    defaults = {a.name: a.default_value for a in overload._schema.arguments}

    def draw(key: Any, *args: Any, **kwargs: Any) -> Any:
        given = defaults | dict(zip(defaults, args, strict=False)) | kwargs
        if given.get("generator") is not None:
            raise NotImplementedError("a program draws from the default generator only, not from one that is passed")
        return function(key, **{parameter: given[name] for name, parameter in wanted.items()})

    draw.__module__ = function.__module__  # by which `fingerprint` tells whose it is
    return draw
