"""The pool: equal programs share an executable, the least recently used goes, and comes back when it is called."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tpu_dynamo_runtime import Pool, PooledProgram, Traffic


class Loads:
    """Stands for XLA: makes an object for each program, and counts."""

    def __init__(self):
        self.made: list[str] = []

    def __call__(self, entry: PooledProgram) -> Any:
        self.made.append(entry.digest)
        return type("Executable", (), {})()


def test_equal_programs_share_one_executable():
    pool = Pool(loads := Loads(), Traffic())
    first, second = pool.enter(None, b"", "a"), pool.enter(None, b"", "a")
    assert first is second
    assert loads.made == ["a"]
    assert pool.find(None, "a") is first
    assert pool.find(None, "b") is None


def test_the_least_recently_used_is_unloaded_and_loaded_again_when_it_is_called():
    traffic = Traffic()
    pool = Pool(loads := Loads(), traffic, limit=2)
    a, b = pool.enter(None, b"", "a"), pool.enter(None, b"", "b")
    a.last_use, b.last_use = 7, 3
    traffic.executions = 8
    c = pool.enter(None, b"", "c")
    assert [entry.executable is not None for entry in (a, b, c)] == [True, False, True]
    assert b.loaded() is b.executable
    assert loads.made == ["a", "b", "c", "b"]
    assert len(pool) == 2


def test_an_executable_goes_with_the_last_that_uses_it():
    pool = Pool(Loads(), Traffic())
    entry = pool.enter(None, b"", "a")
    gone = weakref.ref(entry.loaded())
    del entry
    gc.collect()
    assert gone() is None
    assert len(pool) == 0


def test_clearing_unloads_what_is_in_use():
    pool = Pool(loads := Loads(), Traffic())
    entry = pool.enter(None, b"", "a")
    pool.clear()
    assert len(pool) == 0
    assert entry.loaded() is not None
    assert loads.made == ["a", "a"]


def test_who_asks_last_for_what_is_unloaded_says_by_which_names():
    pool = Pool(Loads(), Traffic())
    entry = pool.enter(None, b"old", "a", operations=("old",))
    assert pool.enter(None, b"new", "a", operations=("new",)) is entry
    assert (entry.stablehlo, entry.operations) == (b"old", ("old",))  # as it is loaded
    pool.clear()
    assert pool.enter(None, b"new", "a", operations=("new",)) is entry
    assert (entry.stablehlo, entry.operations) == (b"new", ("new",))


def test_threads_that_want_one_program_load_it_once():
    started = threading.Barrier(8)
    loads = Loads()
    pool = Pool(loads, Traffic())

    def enter(_):
        started.wait()
        return pool.enter(None, b"", "a")

    with ThreadPoolExecutor(8) as threads:
        entries = set(threads.map(enter, range(8)))
    assert len(entries) == 1
    assert loads.made == ["a"]
