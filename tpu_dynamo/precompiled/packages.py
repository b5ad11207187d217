"""Packages on disk: in a folder of their own, found by a digest of the model, used only if every check holds."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tpu_dynamo_lowering import NoStableKey
from tpu_dynamo_runtime import client
from tpu_dynamo_runtime.store import Store, default_path

from ..cache.settings import cache_settings
from ..cache.signature import conditions
from ..device import NAME as DEVICE
from ..graph.torch_cache import finding_programs
from ..options import Options
from ..session import session
from ._torch_compat import CompilePackage, decode, dynamo_settings, encode, install, module_scope, new_package
from .guard_checks import first_difference
from .identity import Description, code_digest

KIND = "package"
# Increased when the contents of a key or an entry change.
_SCHEMA = 2


class Refused(Exception):
    """A package cannot be used, or none can be made; the message says why."""


@dataclass(frozen=True)
class Loaded:
    """A package from disk that is installed, with its backends and checks."""

    package: CompilePackage
    backends: Mapping[Any, Any]
    checks: dict[str, Description]


def store_of(options: Options) -> Store | None:
    """Return the store for packages, the folder `precompiled` in that of the cache; None if the cache is off."""
    settings = cache_settings(options)
    folder = (settings.directory or Path(default_path())) / "precompiled"
    cache = session().cache(replace(settings, directory=folder, remote=None))
    return cache.store if cache is not None else None


def key_of(model: Callable[..., Any], function: Any, options: Options) -> str:
    """Return a digest of the function's name, the model's structure, options, settings and versions.

    Raises Refused for a model that no digest can tell from others.
    """
    structure, on_device = _structure(model)
    try:
        target = client(options.target)
        ours = conditions(options, target.platform, on_device, target.fast_memory)
    except NoStableKey as why:
        raise Refused(str(why)) from why
    code = getattr(function, "__code__", None)
    if code is None:
        raise Refused("the model is neither a module nor a function")
    name = [module_scope(function)["__name__"], function.__module__, function.__qualname__, code_digest(code)]
    parts = [_SCHEMA, name, structure, ours, dynamo_settings(), torch.is_grad_enabled()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _structure(model: Callable[..., Any]) -> tuple[list[Any], bool]:
    if not isinstance(model, torch.nn.Module):
        return [], False
    modules = [
        [name, type(module).__module__, type(module).__qualname__, module.extra_repr(), module.training]
        for name, module in model.named_modules()
    ]
    held = [*model.named_parameters(), *model.named_buffers()]
    tensors = [[name, str(t.dtype), list(t.shape), t.device.type, t.requires_grad] for name, t in held]
    return [modules, tensors], any(tensor.device.type == DEVICE for _, tensor in held)


def load(store: Store, key: str, model: Callable[..., Any], function: Any, options: Options) -> Loaded | None:
    """Install and return the package under a key; None if there is none. Raises Refused if it cannot be used."""
    found = store.get(KIND, key)
    if found is None:
        return None
    try:
        checks = json.loads(found.sections["checks"])
        entry = decode(found.sections["package"])
        if (why := first_difference(checks, _scopes(model, function, entry, checks))) is not None:
            raise Refused(why)
        package = new_package(function, entry)
        with finding_programs(options):
            install(package, entry)
    except Refused:
        raise
    except Exception as why:
        # Pickles, guards and wrappers of torch's run here, and can raise anything.
        raise Refused(f"{type(why).__name__}: {' '.join(str(why).split())[:200]}") from why
    return Loaded(package, dict(entry.backends), checks)


def keep(
    store: Store, key: str, package: CompilePackage, backends: Mapping[str, Any], checks: Mapping[str, Description]
) -> None:
    """Write a package to the store. Raises Refused if it cannot be pickled."""
    try:
        data = encode(package, backends)
    except Exception as why:
        # Guards hold the user's objects, whose pickling can raise anything.
        raise Refused(f"{type(why).__name__}: {' '.join(str(why).split())[:200]}") from why
    store.put(KIND, key, {"package": data, "checks": json.dumps(checks).encode()}, {"checks": len(checks)})


def _scopes(
    model: Callable[..., Any], function: Any, entry: Any, checks: Mapping[str, Description]
) -> dict[str, dict[str, Any]]:
    """Return the scopes of a frame that is not called yet: its globals as `G`, its closure and its object as `L`."""
    aliases = {alias: module for code in entry.dynamo.codes for alias, module in code.import_sources.items()}
    scope = {**module_scope(function), **{alias: importlib.import_module(name) for alias, name in aliases.items()}}
    for name in set(re.findall(r"G\['(__builtins_dict__\w*)'\]", " ".join(checks))):
        scope[name] = vars(builtins)
    plain = getattr(function, "__func__", function)
    cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
    return {"G": scope, "L": {**{name: cell.cell_contents for name, cell in cells}, "self": model}}
