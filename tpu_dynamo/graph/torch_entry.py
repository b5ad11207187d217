"""A compiled graph as torch's AOTAutogradCache keeps it: as a few names and numbers that lead to our own store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .._torch_compat import BypassAOTAutogradCache, FXGraphCacheMiss, OutputCode

Run = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class GraphRecord:
    """What another process needs to find a graph's program, and to call it.

    signature: the key of its program in the store. The rest as in `specialise.Graph`.
    """

    role: str
    signature: str
    on_device: bool
    static: tuple[int, ...]
    returned: int | None


# How a record becomes a graph again, with the options of the torch.compile call that looked it up.
_revive: ContextVar[Callable[[GraphRecord], Run | None]] = ContextVar("tpu_dynamo_revive")


@contextmanager
def reviving(revive: Callable[[GraphRecord], Run | None]) -> Iterator[None]:
    """Within it, entries of torch's cache find their programs by `revive`, which gives None where there is none."""
    token = _revive.set(revive)
    try:
        yield
    finally:
        _revive.reset(token)


class StoredGraph(OutputCode):
    """A compiled graph whose pickled form is its record and nothing else.

    record: None where the graph cannot be found again, for the reason `why`; then torch keeps no entry.
    """

    def __init__(self, record: GraphRecord | None, run: Run, why: str = ""):
        self._boxed_call = True
        self.record = record
        self.why = why
        self._run: Any = run  # None only in a copy that is pickled

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Run on the graph's inputs, a list; empties it."""
        return self._run(inputs)

    @property
    def direct(self) -> Run | None:
        """As CompiledGraph's."""
        return getattr(self._run, "direct", None)

    def prepare_for_serialization(self) -> None:
        """Called on a copy that is to be pickled. Raises BypassAOTAutogradCache for a graph that cannot be found."""
        if self.record is None:
            raise BypassAOTAutogradCache(self.why)
        self._run = None

    def post_compile(self, example_inputs: Any, constants: Any, graph_kwargs: Any) -> None:
        """Called on what was unpickled. Raises FXGraphCacheMiss where its program is no longer in the store."""
        assert self.record is not None
        self._run = _revive.get()(self.record)
        if self._run is None:
            raise FXGraphCacheMiss(f"no program {self.record.signature[:12]}")

    def __getstate__(self) -> dict[str, Any]:
        return {"record": self.record}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["record"], None)  # pyright: ignore[reportArgumentType]
