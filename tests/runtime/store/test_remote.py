"""The remote tier: looked into after a miss, believed no more than a local file, and never in the way."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tpu_dynamo_runtime.store import Store, open_store, remove
from tpu_dynamo_runtime.store.remote import _PAUSE, Remote

from .stores import KEY, KIND, Clock, entry_path, kept, key, new_store, put, sections


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/cache"


@pytest.fixture
def full(tmp_path, url) -> Store:
    """A machine that has made an entry and pushed it."""
    store = new_store(tmp_path / "first", remote=url)
    put(store, KEY)
    assert store.push(KIND, KEY)
    return store


@pytest.fixture
def other(tmp_path, url, full) -> Store:
    """Another machine."""
    return new_store(tmp_path / "second", remote=url)


def path_of(url: str, name: str = KEY) -> str:
    return f"{url.removeprefix('memory:/')}/{KIND}/{name[:2]}/{name}"


def change(url: str, data: bytes) -> None:
    MemoryFileSystem().pipe_file(path_of(url), data)


def test_a_pushed_entry_is_found_by_another_machine_and_then_kept_there(other, url):
    found = other.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert found.header.metadata == {"name": KEY}
    MemoryFileSystem().rm(path_of(url))
    assert other.get(KIND, KEY) is not None
    assert not other.faults.counts()


def test_only_the_sections_that_are_asked_for_come_from_the_remote_too(other):
    found = other.get(KIND, KEY, only={"outputs"})
    assert found is not None
    assert found.sections == {"outputs": b""}


def test_nothing_is_written_but_by_push(tmp_path, url):
    store = new_store(tmp_path, remote=url)
    put(store, KEY)
    assert not MemoryFileSystem().exists(path_of(url))
    assert not store.push(KIND, key(1))
    assert store.push(KIND, KEY)
    assert MemoryFileSystem().cat_file(path_of(url)) == entry_path(store).read_bytes()


def test_a_damaged_entry_is_not_pushed(full):
    data = bytearray(entry_path(full).read_bytes())
    data[-1] ^= 1
    entry_path(full).write_bytes(data)
    assert not full.push(KIND, KEY)
    assert full.faults.counts() == {"damaged": 1}


def test_without_a_remote_a_push_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="no remote tier"):
        new_store(tmp_path).push(KIND, KEY)


def test_a_remote_miss_is_no_fault(other):
    assert other.get(KIND, key(1)) is None
    assert not other.faults.counts()


def test_the_remote_may_be_left_out(other):
    assert other.get(KIND, KEY, remote=False) is None
    assert kept(other) == set()


@pytest.mark.parametrize("position", [0, 8, 12, 20, 60, -1])
def test_a_damaged_remote_entry_is_a_counted_miss_and_not_kept(other, full, url, position):
    data = bytearray(entry_path(full).read_bytes())
    data[position] ^= 1
    change(url, bytes(data))
    assert other.get(KIND, KEY, only=set()) is None
    assert other.faults.counts() == {"remote_damaged": 1}
    assert kept(other) == set()


def test_another_entry_under_the_name_is_a_counted_miss(other, full, url):
    put(full, key(1))
    change(url, entry_path(full, key(1)).read_bytes())
    assert other.get(KIND, KEY) is None
    assert other.faults.counts() == {"remote_damaged": 1}
    assert kept(other) == set()


def test_a_local_entry_that_is_damaged_is_replaced_from_the_remote(full):
    entry_path(full).write_bytes(b"bad")
    found = full.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert full.faults.counts() == {"damaged": 1}
    assert kept(full) == {KEY}


def test_a_cache_that_is_only_read_uses_remote_entries_without_keeping_them(tmp_path, full, url):
    (tmp_path / "second").mkdir(mode=0o700)
    store = open_store(tmp_path / "second", remote=url, read_only=True)
    assert store.get(KIND, KEY) is not None
    assert kept(store) == set()
    assert store.faults.counts() == {"read_only": 1}


def test_the_entries_folder_of_a_store_is_a_remote(tmp_path):
    put(new_store(tmp_path / "first"), KEY)
    store = new_store(tmp_path / "second", remote=f"file://{tmp_path}/first/entries")
    assert store.get(KIND, KEY) is not None
    assert kept(store) == {KEY}


def test_a_push_makes_folders_on_a_file_system(tmp_path):
    store = new_store(tmp_path / "first", remote=f"file://{tmp_path}/shared/cache")
    put(store, KEY)
    assert store.push(KIND, KEY)
    assert (tmp_path / "shared" / "cache" / KIND / KEY[:2] / KEY).read_bytes() == entry_path(store).read_bytes()


class Broken(MemoryFileSystem):
    """A file system that fails as a client of some service does, or does not answer."""

    protocol = "broken"
    asked: int
    error: Exception | None
    answer: threading.Event
    called: threading.Event

    def info(self, path, **kwargs):
        type(self).asked += 1
        self.called.set()
        if self.error:
            raise self.error
        assert self.answer.wait(900)  # the test sets it at its end
        return {"size": 1 << 60, "name": path, "type": "file"}

    def pipe_file(self, path, value, **kwargs):
        return self.info(path)


@pytest.fixture
def broken(monkeypatch) -> Iterator[type[Broken]]:
    Broken.asked, Broken.error, Broken.answer, Broken.called = 0, None, threading.Event(), threading.Event()
    fsspec.register_implementation("broken", Broken, clobber=True)
    yield Broken
    Broken.answer.set()


class Strange(Exception):
    """An error that no list of exceptions could foresee."""


@pytest.mark.parametrize("error", [Strange("code 503"), PermissionError("no"), TimeoutError("late")], ids=repr)
def test_a_remote_that_fails_is_counted_and_left_alone_for_a_while(tmp_path, broken, error):
    broken.error = error
    clock = Clock()
    store = new_store(tmp_path)
    store._remote = Remote("broken://cache", 30.0, store.faults, clock)
    put(store, key(1))
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"remote_failed": 1}
    assert f"{type(error).__name__}: {error}" in store.faults.details()["remote_failed"]
    assert store.get(KIND, KEY) is None
    assert broken.asked == 1
    clock.now += _PAUSE
    assert store.get(KIND, KEY) is None
    assert not store.push(KIND, key(1))
    assert broken.asked == 3
    assert store.faults.counts() == {"remote_failed": 3}


def test_a_remote_that_does_not_answer_is_counted_and_left_behind(tmp_path, broken):
    store = new_store(tmp_path, remote="broken://cache", remote_timeout=0.05)
    assert store.get(KIND, KEY) is None
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"remote_slow": 1}
    assert broken.called.wait(900), "the thread that asks may begin later than the store stops waiting"
    assert broken.asked == 1
    assert all(thread.daemon for thread in threading.enumerate() if "remote store" in thread.name)


def test_a_remote_file_that_is_too_large_is_not_fetched(tmp_path, broken):
    broken.answer.set()
    store = new_store(tmp_path, remote="broken://cache")
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"remote_failed": 1}
    assert "more than an entry can have" in store.faults.details()["remote_failed"]


@pytest.mark.parametrize("url", ["nothing://cache", "::::", "gs2://x"])
def test_a_url_that_nobody_knows_is_a_counted_fault(tmp_path, url):
    store = new_store(tmp_path, remote=url)
    assert store.get(KIND, KEY) is None
    assert sum(store.faults.counts().values()) <= 1


def test_a_missing_fsspec_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    store = new_store(tmp_path, remote="memory://x")
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"remote_failed": 1}
    assert 'pip install "tpu-dynamo[remote]"' in store.faults.details()["remote_failed"]


def test_a_removed_entry_comes_back_from_the_remote(other):
    assert other.get(KIND, KEY) is not None
    assert remove(other, KIND, KEY)
    assert kept(other) == set()
    assert other.get(KIND, KEY) is not None


def test_the_remote_lists_its_entries_and_nothing_else(full, other, url):
    MemoryFileSystem().pipe_file(f"{url.removeprefix('memory:/')}/notes.txt", b"x")
    assert other.remote_names() == [(KIND, KEY, entry_path(full).stat().st_size)]
    assert new_store(entry_path(full).parent, remote=f"memory://{uuid.uuid4().hex}").remote_names() == []
    broken = new_store(entry_path(full).parent, remote="nonsense://x")
    assert broken.remote_names() is None
    assert broken.faults.counts() == {"remote_failed": 1}
