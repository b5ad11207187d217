"""`@tpu_dynamo.warmup_case`: cases written in Python, where a manifest cannot express them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from .cases import Case
from .manifest import MODES

_ATTRIBUTE = "__tpu_dynamo_warmup_case__"
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Decoration:
    """The arguments of the decorator `warmup_case`. fields: those that become fields of its cases as they are."""

    name: str
    modes: tuple[str, ...]
    targets: tuple[str, ...]
    parameters: tuple[Mapping[str, Any], ...]
    loss: Callable[[Any], Any] | None
    fields: Mapping[str, Any]


def warmup_case(
    *,
    name: str | None = None,
    modes: Sequence[str] = ("inference",),
    targets: Sequence[str] = ("auto",),
    parameters: Sequence[Mapping[str, Any]] = ({},),
    loss: Callable[[Any], Any] | None = None,
    init: str = "random",
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    autocast: str | None = None,
    module_mode: str = "by_mode",
    dynamic: bool | None = None,
    timeout: float | None = None,
) -> Callable[[_Factory], _Factory]:
    """Mark a function that returns (model, args) or (model, args, kwargs) as a case for `tpu-dynamo warmup MODULE`.

    The function may build anything: the model may be any callable, its arguments any nested tensors. It is called
    with each of `parameters`, and each makes a case. loss: takes what the model returns and returns the scalar that
    is differentiated in the mode `train`. The rest is as in a manifest, see docs/warmup.md. Raises ValueError for a
    mode that does not exist. The function itself is returned as it was.
    """
    for mode in modes:
        if mode not in ("inference", "train"):
            why = "needs an optimizer, which a manifest names" if mode in MODES else "does not exist"
            raise ValueError(f"the mode {mode!r} {why}; there are inference and train")
    fields = {
        "init": init, "device": device, "options": dict(options or {}), "autocast": autocast,
        "module_mode": module_mode, "dynamic": dynamic, "timeout": timeout,
    }  # fmt: skip

    def mark(function: _Factory) -> _Factory:
        decoration = Decoration(
            name or function.__name__, tuple(modes), tuple(targets), tuple(parameters), loss, fields
        )
        setattr(function, _ATTRIBUTE, decoration)
        return function

    return mark


def decoration_of(factory: Any) -> Decoration | None:
    """Return the arguments of a function's decorator; None where it has none."""
    return getattr(factory, _ATTRIBUTE, None)


def cases_in(module: ModuleType, folders: Sequence[str], names: Sequence[str] = ()) -> list[Case]:
    """Return the cases of a module's decorated functions, or of those with these names, in the order of the file."""
    functions = [
        (name, value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and (not names or name in names)
    ]
    return [
        case
        for name, value in functions
        if (decoration := decoration_of(value)) is not None
        for case in _cases(f"{module.__name__}:{name}", decoration, tuple(folders))
    ]


def _cases(factory: str, decoration: Decoration, folders: tuple[str, ...]) -> list[Case]:
    found = []
    for target, mode, parameters in itertools.product(decoration.targets, decoration.modes, decoration.parameters):
        shown = ",".join(f"{name}={value}" for name, value in parameters.items())
        name = "/".join([decoration.name, mode, *([shown] if shown else []), target])
        found.append(
            Case(name, decoration.name, target, mode, factory, folders, (), dict(parameters), **decoration.fields)
        )
    return found
