"""Calling a function when a library is imported, or at once if it is."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Adapt = Callable[[ModuleType], None]


class _Finder(MetaPathFinder):
    """Finds one library as Python does, and gives it a loader that calls a function when it has loaded it."""

    def __init__(self, name: str, adapt: Adapt):
        self._name, self._adapt, self._asked = name, adapt, threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the library's spec with a loader around its own; None for every other module.

        Libraries ask for the specs of others to see whether they are there, so it may be asked often.
        """
        if fullname != self._name or getattr(self._asked, "below", False):
            return None
        self._asked.below = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asked.below = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._loaded)
        return spec

    def _loaded(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)
        self._adapt(module)


class _Loader(Loader):
    """Loads as another loader does, then calls a function with the module."""

    def __init__(self, loader: Loader, loaded: Adapt):
        self._loader, self._loaded = loader, loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the other loader creates."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, with its own loader in its spec, and call the function."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._loaded(module)


def when_imported(name: str, adapt: Adapt) -> None:
    """Call `adapt` with a top-level module once it is imported; at once if it was."""
    if name in sys.modules:
        adapt(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, adapt))
