"""Recording where the device's memory goes, while a context lasts; nothing is recorded, and nothing paid, otherwise."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..device.cells import Cell
from ..held_tensors import held_tensors
from ..session import session
from ..users_line import running_line
from .record import LINES, MemoryRecord, Moment

_Place = tuple[str, int] | None

# Owners are looked for, which takes a while, when so much more is held than when they were last.
_MORE = 1.1
# The owner of memory that was gone before anyone looked.
_UNKNOWN = "short-lived"


class _Recorder:
    """The running record: what each piece of memory is, and the moments so far."""

    def __init__(self, most: int):
        self._most = max(most, 16)
        self._lock = threading.RLock()
        self._held: dict[int, tuple[int, _Place]] = {}
        self._owners: dict[int, str] = {}
        self._references: dict[int, weakref.ref[Cell]] = {}
        self._lines: Counter[_Place] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._born: Counter[_Place] = Counter()
        self._total = self._newest = 0
        self._looked_at = 0
        self._gap = 0.0
        self._started = time.perf_counter()
        self.moments: list[Moment] = []
        self.peak = Moment(0.0, 0, {}, {})

    def begin(self) -> None:
        """Take what is held already, which is of no line."""
        for each in held_tensors():
            self._enter(each.cell, each.cell.nbytes, None)
            self._own(id(each.cell), each.owner)
        self._note("begin")

    def born(self, cell: Cell, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Take a new piece of memory."""
        place = running_line()
        with self._lock:
            self._enter(cell, math.prod(shape) * dtype.itemsize, place)
            higher = self._total > self.peak.total
        if higher and self._total > self._looked_at * _MORE:
            self.look()
        self._note("", keep=higher)

    def look(self) -> None:
        """Find out the owners of what is held now."""
        self._looked_at = self._total
        owners = {id(each.cell): each.owner for each in held_tensors()}
        with self._lock:
            for key, owner in owners.items():
                self._own(key, owner)

    def _own(self, key: int, owner: str) -> None:
        if (found := self._held.get(key)) is not None:
            self._by_owner[self._owners.get(key, _UNKNOWN)] -= found[0]
            self._by_owner[owner] += found[0]
            self._owners[key] = owner

    def mark(self, name: str) -> None:
        """Note a moment under a name, with owners as they are now."""
        self.look()
        self._note(name, keep=True)

    def _enter(self, cell: Cell, nbytes: int, place: _Place) -> None:
        key = id(cell)
        if key in self._held:
            return
        self._held[key] = nbytes, place
        self._references[key] = weakref.ref(cell, lambda _: self._gone(key))
        self._lines[place] += nbytes
        self._by_owner[_UNKNOWN] += nbytes
        self._born[place] += nbytes
        self._total += nbytes
        self._newest = key

    def _gone(self, key: int) -> None:
        with self._lock:
            if (found := self._held.pop(key, None)) is None:
                return
            nbytes, place = found
            self._lines[place] -= nbytes
            self._total -= nbytes
            owner = self._owners.pop(key, _UNKNOWN)
            self._by_owner[owner] -= nbytes
            # An operation in place puts a new piece of memory where the old one was, which goes at once.
            newest = self._held.get(self._newest, (0, None))[0]
            if newest == nbytes and self._newest not in self._owners and owner != _UNKNOWN:
                self._own(self._newest, owner)
            self._references.pop(key, None)
        self._note("")

    def _note(self, mark: str, keep: bool = False) -> None:
        """Keep the moment, unless the last one is too near; of too many moments every other one goes."""
        now = time.perf_counter() - self._started
        with self._lock:
            near = bool(self.moments) and now - self.moments[-1].seconds < self._gap
            if mark or not near or keep:
                moment = self._moment(now, mark)
                if near and not mark and not self.moments[-1].mark:
                    self.moments[-1] = moment
                else:
                    self.moments.append(moment)
                if moment.total > self.peak.total:
                    self.peak = moment
            if len(self.moments) > self._most:
                self.moments = [m for i, m in enumerate(self.moments) if i % 2 == 0 or (m.mark and i > 1)][: self._most]
                self._gap = max(2 * self._gap, now / self._most)

    def _moment(self, now: float, mark: str) -> Moment:
        owners = {owner: nbytes for owner, nbytes in self._by_owner.items() if nbytes > 0}
        lines = {place: nbytes for place, nbytes in self._lines.most_common(LINES) if nbytes > 0}
        return Moment(now, self._total, owners, lines, mark)

    def finish(self) -> MemoryRecord:
        """Return what was recorded."""
        self.mark("end")
        constants = sum(executable.constant_bytes for executable in session().executables())
        return MemoryRecord(tuple(self.moments), self.peak, dict(self._born.most_common()), constants)


class Recording:
    """The hold on a record that runs: `mark` names a moment, `record` is what was recorded once the context ended."""

    def __init__(self, recorder: _Recorder):
        self._recorder = recorder
        self.record: MemoryRecord | None = None

    def mark(self, name: str) -> None:
        """Name this moment, as `epoch 2`."""
        self._recorder.mark(name)


@contextmanager
def record_memory(most: int = 2000) -> Iterator[Recording]:
    """Record the device's memory within the context: `with record_memory() as recording`, then `recording.record`.

    most: how many moments are kept; beyond, they lie further apart. Each piece of memory that tensors get within the
    context costs some microseconds. Memory within a program that runs is not seen: TargetGraph.peak explains that.
    Raises RuntimeError where memory is recorded already.
    """
    if Cell.__init__ is not _plain_init:
        raise RuntimeError("the device's memory is recorded already, and one record at a time can be made")
    recorder = _Recorder(most)
    recorder.begin()
    recording = Recording(recorder)

    def noted(self: Cell, buffer: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        _plain_init(self, buffer, shape, dtype)
        recorder.born(self, shape, dtype)

    Cell.__init__ = noted
    try:
        yield recording
    finally:
        Cell.__init__ = _plain_init
        recording.record = recorder.finish()


_plain_init = Cell.__init__
