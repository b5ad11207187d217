"""A case's model and inputs, built from the names and shapes in the case."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._torch_compat import mark_dynamic, pytree
from .cases import Case, Sizes
from .problems import CaseError, describe_error

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Built:
    """A model, and the arguments of each call of each walk: on the meta device, or with values where `init` says so."""

    model: Callable[..., Any]
    walks: list[list[Call]]


def load(path: str, folders: Sequence[str]) -> Any:
    """Import the object that `module:name` names, looking in `folders` first. Raises CaseError."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise CaseError(f"{path!r} is not of the form MODULE:NAME, as in models:make_bert")
    found: Any = load_module(module_name, folders, path)
    for part in name.split("."):
        if not hasattr(found, part):
            raise CaseError(f"{path!r}: {_place(module_name)} has no {part!r}{_close(part, found)}")
        found = getattr(found, part)
    return found


def load_module(name: str, folders: Sequence[str], why: str) -> Any:
    """Import a module, looking in `folders` first. why: the name that needs it, for errors. Raises CaseError."""
    for folder in reversed(folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        looked = ", ".join(folders)
        raise CaseError(
            f"no module named {error.name!r}, which {why!r} needs; looked in {looked} and the environment"
        ) from error
    except Exception as error:
        raise CaseError(f"importing {name!r} raised {describe_error(error)}") from error


def build(case: Case, mesh: Any = None) -> Built:
    """Build the case's model and the arguments of its calls. mesh: what the factory takes first. Raises CaseError."""
    factory = load(case.factory, case.folders)
    where = torch.device("meta") if case.init == "meta" else contextlib.nullcontext()
    try:
        with where:
            made = factory(*([] if mesh is None else [mesh]), *case.args, **case.kwargs)
    except Exception as error:
        hint = '\n  try: init = "random", where the code cannot build on the meta device' if case.init == "meta" else ""
        raise CaseError(f"the factory {case.factory} raised {describe_error(error)}{hint}") from error
    model, given = _parts(case, made)
    _set_mode(case, model)
    if case.dtype is not None and isinstance(model, torch.nn.Module):
        model = model.to(getattr(torch, case.dtype))
    if case.init == "real" and case.device == "tpu" and isinstance(model, torch.nn.Module):
        model = model.to("tpu")
    if case.inputs is None:
        if given is None:
            raise CaseError(
                f"the factory {case.factory} gives a model without inputs, and the manifest names none\n"
                "  try: `inputs` in the manifest, or a factory that returns (model, args) or (model, args, kwargs)"
            )
        return Built(model, [[_on_device(case, given)] for _ in case.walks])
    return Built(model, [[_call(case, sizes) for sizes in walk] for walk in case.walks])


def _parts(case: Case, made: Any) -> tuple[Callable[..., Any], Call | None]:
    if callable(made):
        return made, None
    if isinstance(made, tuple | list) and 2 <= len(made) <= 3 and callable(made[0]):
        args = made[1] if isinstance(made[1], tuple | list) else (made[1],)
        kwargs = made[2] if len(made) == 3 else {}
        if isinstance(kwargs, Mapping):
            return made[0], (tuple(args), dict(kwargs))
    raise CaseError(
        f"the factory {case.factory} must return a model, (model, args) or (model, args, kwargs), and returned "
        f"{type(made).__name__}"
    )


def _set_mode(case: Case, model: Any) -> None:
    if isinstance(model, torch.nn.Module) and case.module_mode != "as_built":
        training = case.mode in ("train", "step") if case.module_mode == "by_mode" else case.module_mode == "train"
        model.train(training)


def _call(case: Case, sizes: Sizes) -> Call:
    if isinstance(case.inputs, Mapping):
        return (), {name: _value(case, spec, sizes) for name, spec in case.inputs.items()}
    return tuple(_value(case, spec, sizes) for spec in case.inputs), {}


def _value(case: Case, spec: Any, sizes: Sizes) -> Any:
    if isinstance(spec, list):
        return [_value(case, each, sizes) for each in spec]
    if "value" in spec:
        return spec["value"]
    tensor = spec["tensor"]
    shape = [sizes[size] if isinstance(size, str) else size for size in tensor["shape"]]
    dtype = getattr(torch, tensor["dtype"])
    made = (
        _real(case, shape, dtype, tensor["range"])
        if case.init == "real"
        else torch.empty(shape, dtype=dtype, device="meta")
    )
    if tensor["memory_format"] == "channels_last":
        made = made.to(memory_format=torch.channels_last)
    made.requires_grad_(tensor["requires_grad"])
    for dim, size in enumerate(tensor["shape"]):
        if size in case.marked and shape[dim] > 1:
            mark_dynamic(made, dim, **case.marked[size])
    return made


def _real(case: Case, shape: list[int], dtype: torch.dtype, bounds: Sequence[int]) -> torch.Tensor:
    if dtype.is_floating_point or dtype.is_complex:
        made = torch.randn(shape, dtype=torch.complex64 if dtype.is_complex else torch.float32, device="cpu").to(dtype)
    else:
        made = torch.randint(bounds[0], bounds[1] + 1, shape, device="cpu").to(dtype)
    return made.to(case.device) if case.device == "tpu" else made


def _on_device(case: Case, call: Call) -> Call:
    if case.init != "real" or case.device != "tpu":
        return call
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to("tpu"), call)


def _place(module: str) -> str:
    return f"{module} ({getattr(sys.modules[module], '__file__', None) or 'built in'})"


def _close(name: str, owner: Any) -> str:
    close = difflib.get_close_matches(name, [n for n in dir(owner) if not n.startswith("_")], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
