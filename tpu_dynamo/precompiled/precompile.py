"""Models compiled as one graph, whose frame is stored for later processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_runtime.store import Store

from ..backend import tpu
from ..options import Options
from ..session import session
from ._torch_compat import contents, function_of, new_package, optimize
from .guard_checks import GuardFilter
from .packages import Loaded, Refused, keep, key_of, load, store_of

log = logging.getLogger("tpu_dynamo")


def precompile(
    model: Callable[..., Any], *, options: Mapping[str, Any] | None = None, dynamic: bool | None = None
) -> Precompiled:
    """Return `torch.compile(model, backend="tpu", fullgraph=True)` that later processes need not trace. Experimental.

    model: a module, or a function. options, dynamic: as of torch.compile. The first process compiles, and stores the
    compiled frame; in a later one Dynamo and AOTAutograd do not run if the model, the sources of all code that was
    traced, options, settings and versions are the same. docs/caching.md says what is checked and when. If nothing can
    be stored or found, the model is compiled as without this; `tpu_dynamo.stats().precompile` has the reason.

    Raises the errors of torch.compile and of the backend.
    """
    return Precompiled(model, options, dynamic)


class Precompiled:
    """A compiled model. Attributes other than its own are those of the model."""

    def __init__(self, model: Callable[..., Any], options: Mapping[str, Any] | None, dynamic: bool | None):
        self._model = model
        self._options = Options.parse(options)
        self._plain = torch.compile(model, backend="tpu", fullgraph=True, dynamic=dynamic, options=dict(options or {}))
        self._given = options
        self._dynamic = dynamic
        self._function = function_of(model)
        self._store: Store | None = store_of(self._options)
        self._began = 0
        self._start()

    def _start(self) -> None:
        self._filter = GuardFilter()
        self._loaded: Loaded | None = None
        self._key = ""
        if self._store is None:
            self._give_up("the cache is off")
            return
        try:
            self._key = key_of(self._model, self._function, self._options)
            self._loaded = load(self._store, self._key, self._model, self._function, self._options)
            _count("hit" if self._loaded is not None else "miss")
        except Refused as why:
            _count(str(why))
        if self._loaded is not None:
            self._package = self._loaded.package
            self._filter.checks.update(self._loaded.checks)
        else:
            try:
                self._package = new_package(self._function, None)
            except (AttributeError, TypeError, AssertionError) as why:
                self._give_up(f"torch makes no package of it: {why}")
                return
        self._compiled = optimize(self._model, self._compile, self._package, self._filter, self._dynamic)

    def _give_up(self, why: str) -> None:
        _count(why)
        self._package = None
        self._compiled = self._plain

    def _compile(self, graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        self._began += 1
        return tpu(graph_module, example_inputs, options=self._given)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled model."""
        if self._package is None:
            return self._plain(*args, **kwargs)
        before, began = contents(self._package), self._began
        try:
            result = self._compiled(*args, **kwargs)
        except Exception as error:
            # torch raises if a frame cannot be put into a package, which is before its single graph runs.
            if self._began == began or contents(self._package).frames != before.frames:
                raise
            self._give_up(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return self._plain(*args, **kwargs)
        if contents(self._package) != before:
            self._keep()
        return result

    def _keep(self) -> None:
        assert self._package is not None and self._store is not None
        if self._filter.problem is not None:
            _count(f"{self._filter.problem} cannot be checked in another process")
            return
        try:
            backends = self._loaded.backends if self._loaded is not None else {}
            if self._key and self._store.may_write():
                keep(self._store, self._key, self._package, backends, self._filter.checks)
        except Refused as why:
            _count(str(why))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)


def _count(outcome: str) -> None:
    session().statistics.count("precompile", outcome)
    log.info("precompile: %s", outcome)
