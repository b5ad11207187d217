"""A compiled graph as torch's AOTAutogradCache keeps it: as names and numbers that lead to our own store.

A graph of changing sizes is kept whole: what its programs are at other sizes can be found by it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_runtime import Renaming

from .._torch_compat import BypassAOTAutogradCache, FXGraphCacheMiss, NotWritable, OutputCode
from ..cache.packed_names import unpack_names
from ..cache.signature import Frame
from ..session import session


@dataclass(frozen=True)
class GraphRecord:
    """The names and numbers with which another process finds a graph's program, and calls it.

    signature: the key of its program in the store. operations, captured: packed, the names that the operations of the
    graph and of Dynamo's graph had in the process that compiled it. The rest as in PreparedGraph.
    """

    role: str
    signature: str
    on_device: bool
    static: tuple[int, ...]
    returned: int | None
    operations: bytes
    captured: bytes

    def operations_here(self, captured: Sequence[str]) -> tuple[str, ...] | None:
        """Return the names of the graph's operations by those that Dynamo's graph has in this process.

        None where they do not tell: Dynamo's frame was found as well.
        """
        before = unpack_names(self.captured)
        if len(before) != len(captured):
            return None
        return tuple(map(Renaming(before, captured).name, unpack_names(self.operations)))


@dataclass(frozen=True)
class SymbolicRecord:
    """A graph of changing sizes, from which another process goes on as from one that it traced.

    module: the prepared graph, as bytes. The rest as in PreparedGraph.
    """

    role: str
    module: bytes
    on_device: bool
    static: tuple[int, ...]
    returned: int | None
    frame: Frame


Record = GraphRecord | SymbolicRecord

# How a record becomes a graph again, with the options of the torch.compile call that looked it up. torch makes entries
# out of pickles and hands them nothing, so they find it here.
_revive: ContextVar[Callable[[Record], Any]] = ContextVar("tpu_dynamo_revive")


@contextmanager
def reviving(revive: Callable[[Record], Any]) -> Iterator[None]:
    """Let entries of torch's cache become graphs by `revive`, which returns None where there is no program."""
    token = _revive.set(revive)
    try:
        yield
    finally:
        _revive.reset(token)


class TorchEntry(OutputCode):
    """A compiled graph whose pickled form is its record and nothing else.

    record: the record, or what makes it when all graphs of the entry are compiled and raises NotWritable. None where
    the graph cannot be found again, for the reason `why`; then torch keeps no entry.
    """

    def __init__(self, record: Record | Callable[[], SymbolicRecord] | None, compiled: Any, why: str = ""):
        self._boxed_call = True
        self.record = record
        self.why = why
        self._compiled: Any = compiled  # None only in a copy that is pickled

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Run on the graph's inputs, a list; empties it."""
        return self._compiled(inputs)

    @property
    def direct(self) -> Callable[[list[Any]], list[Any]] | None:
        """The one executable that every call runs, as CompiledGraph.direct; None where there is more to a call."""
        return getattr(self._compiled, "direct", None)

    def prepare_for_serialization(self) -> None:
        """Drop the executable of a copy that is to be pickled.

        Raises BypassAOTAutogradCache for a graph that cannot be found again.
        """
        if self.record is None:
            raise BypassAOTAutogradCache(self.why)
        if callable(self.record):
            try:
                self.record = self.record()
            except NotWritable as why:
                session().statistics.count("autograd_cache", str(why))
                raise BypassAOTAutogradCache(str(why)) from None
        self._compiled = None

    def post_compile(self, example_inputs: Any, constants: Any, graph_kwargs: Any) -> None:
        """Load the program of an unpickled record. Raises FXGraphCacheMiss where the store has it no longer."""
        assert isinstance(self.record, GraphRecord | SymbolicRecord)
        self._compiled = _revive.get()(self.record)
        if self._compiled is None:
            raise FXGraphCacheMiss("a program of it is no longer kept")

    def __getstate__(self) -> dict[str, Any]:
        return {"record": self.record}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["record"], None)
