"""Lowerings from outside of this package: users' own, and those that other libraries ship for their operators.

A library names a module, or a function without parameters, in the entry point group `tpu_dynamo.lowerings`. It is
imported, or called, when a graph first has an operator of no library that this package knows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from inspect import getdoc
from itertools import count
from typing import Any

import torch

from ._torch_compat import OpOverload, computing, pytree
from .code_digest import NoStableKey, digest_of
from .schema_checks import mismatch
from .table import TABLE, How, Lowering

log = logging.getLogger("tpu_dynamo")

GROUP = "tpu_dynamo.lowerings"

# What the code of a module that an entry point names may raise.
_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip

_numbers = count(1)


@dataclass(frozen=True)
class OutsideLowering(Lowering):
    """A lowering from outside: the name of its function, and the number of its registration in this process."""

    home: str = ""
    number: int = 0

    def digest(self) -> str:
        """Return a digest of the code, and of what it calls and reads. Raises NoStableKey where there is none."""
        try:
            return digest_of(self.function, follow=digest_of_operator)
        except NoStableKey as why:
            raise NoStableKey(f"the lowering of {self.overload}, which is registered from outside: {why}") from None

    def identity(self) -> str:
        """Return what tells this lowering from others of the operator in this process, changed globals included."""
        try:
            return self.digest()
        except NoStableKey:
            return f"registration {self.number}"


def with_promised_results(function: Callable[..., Any], expected: Sequence[torch.Tensor]) -> Callable[..., Any]:
    """Return a function whose results have the shapes, and are cast to the dtypes, of an operator's fake results.

    It raises NotImplementedError for another shape, or another number of results.
    """
    promised = [(tuple(value.shape), value.dtype) for value in expected]

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.tree_flatten(function(*args, **kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        found = [tuple(leaves[i].shape) for i in places]
        if found != [shape for shape, _ in promised]:
            said = " and ".join(map(str, (found, [shape for shape, _ in promised])))
            raise NotImplementedError(f"the shapes of its lowering's results and of its fake kernel's differ: {said}")
        for i, (_, dtype) in zip(places, promised, strict=True):
            leaves[i] = leaves[i].to(dtype)
        return pytree.tree_unflatten(leaves, structure)

    return call


# By the operator's full name, `library.operator.overload`: an operator may be defined again, as in a notebook.
_lowerings: dict[str, OutsideLowering] = {}


def register(overload: OpOverload, how: How, function: Callable[..., Any], signed: Callable[..., Any]) -> None:
    """Enter the lowering of an operator; the second of one function takes the place of the first.

    function: writes to the tensors that the operator writes to. signed: the function whose parameters are to be the
    schema's. Raises TypeError for what is no overload, for an operator of ATen's, for one that another function lowers
    already, and for other parameters than the schema's.
    """
    if not isinstance(overload, OpOverload):
        raise TypeError(f"{overload}: a lowering is of an overload, as torch.ops.library.operator.default")
    if overload.namespace in ("aten", "prims") or overload in TABLE:
        raise TypeError(f"{overload} is PyTorch's own operator, and tpu_dynamo says how it is lowered")
    if (why := mismatch(signed, overload)) is not None:
        raise TypeError(why)
    name, home = str(overload), f"{signed.__module__}.{signed.__qualname__}"
    earlier = _lowerings.get(name)
    if earlier is not None and earlier.home != home:
        raise TypeError(f"{name} has a lowering already: {earlier.home}")
    reason = (getdoc(signed) or name).split("\n\n")[0].replace("\n", " ")
    _lowerings[name] = OutsideLowering(name, how, reason, function, home=home, number=next(_numbers))


def find(operator: OpOverload) -> OutsideLowering | None:
    """Return the lowering from outside of an operator, or None. Entry points are loaded the first time."""
    if operator.namespace in ("aten", "prims"):
        return None
    if str(operator) not in _lowerings:
        broken_entry_points()
    return _lowerings.get(str(operator))


@lru_cache(maxsize=1)
def broken_entry_points() -> tuple[str, ...]:
    """Load the entry points once; return a sentence for each that failed, which is logged and no error."""
    failed = []
    for entry in entry_points(group=GROUP):
        try:
            with computing():
                loaded = entry.load()
                if callable(loaded):
                    loaded()
        except _FAULTS as error:
            owner = entry.dist.name if entry.dist is not None else "an unknown package"
            failed.append(
                f"the entry point {entry.name} = {entry.value} of {owner}, in the group {GROUP}, failed: "
                f"{type(error).__name__}: {error}"
            )
            log.warning("%s; its operators have no lowering", failed[-1])
    return tuple(failed)


def digest_of_operator(operator: OpOverload) -> str | None:
    """Return the digest of the lowering of an operator that another lowering calls; None without one."""
    found = find(operator)
    return None if found is None else found.digest()
