"""Cases: the units of work that a manifest asks for, which a process does one after the other."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .manifest import Common, Manifest, Model, defaults_applied, folder_of
from .padded_sizes import Marked, buckets_of_dims, padded_dims
from .shapes import DimTable, TensorInput

# Sizes by the names of dimensions.
Sizes = dict[str, int]


@dataclass(frozen=True)
class Case:
    """One model in one mode for one target: plain data, which crosses into a worker as JSON.

    name: unique in a run, as `bert/train/batch=8/v5e:2x2`. folders: where modules are looked for first. inputs: as in
    the manifest, or None where the factory returns them. walks: sequences of sizes, each as one process of the user's
    may see them. marked: bounds of the dimensions that are marked as dynamic, `min` and `max` or none. The other
    fields are those of manifest.Model and manifest.Common, defaults applied.
    """

    name: str
    model: str
    target: str
    mode: str = "inference"
    factory: str = ""
    folders: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Any = None
    walks: tuple[tuple[Sizes, ...], ...] = (({},),)
    marked: Marked = field(default_factory=dict)
    init: str = "meta"
    dtype: str | None = None
    device: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    autocast: str | None = None
    module_mode: str = "by_mode"
    dynamic: bool | None = None
    mesh: Mapping[str, int] | None = None
    loss: str | None = None
    optimizer: str | None = None
    targets_of_loss: int = 0
    max_grad_norm: float | None = None
    command: tuple[str, ...] = ()
    cwd: str = "."
    timeout: float | None = None

    @property
    def key(self) -> str:
        """A digest of all fields, in hexadecimal: equal for equal cases."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the case as plain data, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """Return the case that `as_dict` turned into data."""
        tuples = {name: tuple(data[name]) for name in ("folders", "args", "command")}
        return cls(**{**data, **tuples, "walks": tuple(map(tuple, data["walks"]))})


def cases_of(manifest: Manifest, path: Path, *, targets: Sequence[str] = (), modes: Sequence[str] = ()) -> list[Case]:
    """Return all cases of a manifest, in the order of its models. targets, modes: used instead of the manifest's."""
    folders = (folder_of(path),)
    found = [case for name, model in manifest.model.items() for case in _of(manifest, name, model, targets, modes)]
    return [dataclasses.replace(case, folders=folders) for case in found]


def chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Select the cases whose name, or model's name, matches a pattern of `only` (with `*`, `?`); all if it is empty."""
    return [
        case
        for case in cases
        if not only or any(fnmatch.fnmatchcase(name, each) for each in only for name in (case.model, case.name))
    ]


def _of(manifest: Manifest, name: str, model: Model, targets: Sequence[str], modes: Sequence[str]) -> Iterator[Case]:
    common = defaults_applied(manifest, model)
    if model.command is not None:
        yield Case(
            f"{name}/command",
            name,
            "command",
            "command",
            command=tuple(model.command),
            cwd=model.cwd,
            timeout=common.timeout,
        )
        return
    fields: dict[str, Any] = {
        "factory": model.factory,
        "args": tuple(model.args),
        "kwargs": model.kwargs,
        "inputs": _plain_inputs(model),
        "init": common.init or "meta",
        "dtype": common.dtype,
        "device": common.device,
        "options": common.options or {},
        "autocast": common.autocast,
        "module_mode": common.module_mode or "by_mode",
        "dynamic": common.dynamic,
        "mesh": common.mesh,
        "loss": model.loss,
        "optimizer": model.optimizer,
        "targets_of_loss": model.targets_of_loss,
        "max_grad_norm": model.max_grad_norm,
        "timeout": common.timeout,
    }
    for target, mode in itertools.product(
        targets or common.targets or ["auto"], modes or common.modes or ["inference"]
    ):
        for fixed, walks, marked in _calls(model, common, mode):
            sizes = ",".join(f"{dim}={size}" for dim, size in fixed.items())
            parts = [name, mode, *([sizes] if sizes else []), target]
            yield Case("/".join(parts), name, target, mode, walks=walks, marked=marked, **fields)


def _calls(model: Model, common: Common, mode: str) -> Iterator[tuple[dict[str, Any], Any, Marked]]:
    """Yield, for each case: the sizes for its name, the sequences of sizes to go through, and the marked dimensions."""
    padded = {} if mode == "step" else padded_dims(model, common)
    if not padded:
        for fixed, walks in _walks(model, common.dynamic):
            yield fixed, walks, {}
        return
    marked = {} if common.dynamic else {name: dim.bounds for name, dim in padded.items()}
    for shown, sizes in buckets_of_dims(model, common, padded):
        yield shown, ((sizes,),), marked


def _plain_inputs(model: Model) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return {"tensor": value.model_dump()} if isinstance(value, TensorInput) else {"value": value}

    if isinstance(model.inputs, dict):
        return {name: plain(value) for name, value in model.inputs.items()}
    return None if model.inputs is None else [plain(value) for value in model.inputs]


def _walks(model: Model, dynamic: bool | None) -> Iterator[tuple[dict[str, Any], tuple[tuple[Sizes, ...], ...]]]:
    """Yield, for each choice of the enumerated sizes, the sizes for the case's name and the sequences to go through."""
    listed: dict[str, list[int]] = {}
    changing: dict[str, list[int]] = {}
    for name, dim in model.dims.items():
        if isinstance(dim, DimTable) and dim.dynamic and dynamic is not False and len(dim.sizes) > 1:
            changing[name] = dim.sizes
        else:
            listed[name] = dim.sizes if isinstance(dim, DimTable) else [dim] if isinstance(dim, int) else dim
    shown = {name: f"{min(sizes)}..{max(sizes)}" for name, sizes in changing.items()}
    for sizes in itertools.product(*listed.values()):
        fixed = dict(zip(listed, sizes, strict=True))
        yield (
            {**fixed, **shown},
            tuple(tuple({**fixed, **one} for one in walk) for walk in _sequences(changing, dynamic)),
        )


def _sequences(changing: Mapping[str, list[int]], dynamic: bool | None) -> list[list[Sizes]]:
    """Return sequences of sizes in which each set of sizes comes first in one, and later, as symbols, in others.

    Dynamo takes the first sizes as numbers, then those that change as symbols. So for each subset of the dimensions
    that may change while the others stay, there is a walk through all sizes that ends where it began.
    """
    every = [dict(zip(changing, sizes, strict=True)) for sizes in itertools.product(*changing.values())]
    if not changing or dynamic:
        return [every]
    walks = [[sizes] for sizes in every]
    names = list(changing)
    for count in range(1, len(names) + 1):
        for moving in itertools.combinations(names, count):
            still = [name for name in names if name not in moving]
            for stay in itertools.product(*(changing[name] for name in still)):
                rest = dict(zip(still, stay, strict=True))
                first = {**rest, **{name: changing[name][0] for name in moving}}
                second = {**rest, **{name: changing[name][1] for name in moving}}
                others = [one for one in every if all(one[n] == size for n, size in rest.items())]
                others = [one for one in others if one not in (first, second)]
                walks.append([first, second, *others, first])
    return walks
