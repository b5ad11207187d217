"""Locks: one holder at a time, nobody waits for ever, and no lock file stays."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from tpu_dynamo_runtime.store import Store
from tpu_dynamo_runtime.store.locks import acquire

from .stores import KEY, KIND, Clock, key, new_store, put


@pytest.fixture
def store(tmp_path) -> Store:
    return new_store(tmp_path, lock_timeout=600.0)  # others hold a lock for milliseconds


def lock_files(store: Store) -> list[str]:
    assert store.directory is not None
    return [file.key for file in store.directory.lock_files()]


def test_a_lock_is_held_by_one_and_its_file_goes_with_it(tmp_path, store):
    impatient = new_store(tmp_path, lock_timeout=0.0)
    with store.exclusive(KIND, KEY) as held:
        assert held
        assert lock_files(store) == [KEY]
        with impatient.exclusive(KIND, KEY) as second:
            assert not second
        with impatient.exclusive(KIND, key(1)) as other, impatient.exclusive("program", KEY) as third:
            assert other
            assert third
    assert lock_files(store) == []
    assert impatient.faults.counts() == {"lock_timeout": 1}
    with impatient.exclusive(KIND, KEY) as held:
        assert held


def test_a_lock_is_let_go_when_its_body_raises(store):
    with pytest.raises(KeyError), store.exclusive(KIND, KEY):
        raise KeyError
    assert lock_files(store) == []


def test_threads_that_want_one_entry_make_it_once(store):
    made = []
    ready = threading.Barrier(8)

    def work(_):
        ready.wait()
        for number in range(10):
            if store.get(KIND, key(number)) is None:
                with store.exclusive(KIND, key(number)) as held:
                    assert held
                    if store.get(KIND, key(number)) is None:
                        made.append(number)
                        put(store, key(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert sorted(made) == list(range(10))
    assert lock_files(store) == []
    assert not store.faults.counts()


def test_two_never_hold_one_lock_while_its_file_comes_and_goes(tmp_path):
    inside, most, rounds = [], [], 300

    def work(_):
        for _ in range(rounds):
            lock = acquire(tmp_path / "lock", 600.0)
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            lock.release()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert len(most) == 4 * rounds
    assert max(most) == 1
    assert not (tmp_path / "lock").exists()


def test_a_file_that_was_removed_by_its_holder_in_between_is_no_lock(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    taken = []
    plain = FileLock.acquire

    def late(lock, *args, **kwargs):
        """The holder lets go after the file was opened and locked, and another has come since."""
        proxy = plain(lock, *args, **kwargs)
        if not taken:
            taken.append(path.stat().st_ino)
            path.rename(tmp_path / "removed")
            path.touch()
        return proxy

    monkeypatch.setattr(FileLock, "acquire", late)
    lock = acquire(path, 600.0)
    with pytest.raises(Timeout):
        acquire(path, 0.0)
    assert path.stat().st_ino != taken[0]
    lock.release()


def test_what_a_dead_holder_left_is_swept_and_what_is_held_is_not(tmp_path):
    clock = Clock()
    store = new_store(tmp_path, clock=clock, max_bytes=20_000)
    put(store, KEY)
    with store.exclusive(KIND, key(1)) as held:
        assert held
        folder = tmp_path / "locks" / KIND
        for name, age in ((key(1), 7200), (key(2), 7200), (key(3), 60)):
            (folder / name).touch(0o600)
            os.utime(folder / name, (clock.now - age,) * 2)
        put(store, KEY)
        assert sorted(lock_files(store)) == sorted([key(1), key(3)])
    assert lock_files(store) == [key(3)]
    assert not store.faults.counts()


def test_waiting_is_told(tmp_path, store, records):
    with store.exclusive(KIND, KEY), new_store(tmp_path, lock_timeout=0.01).exclusive(KIND, KEY) as second:
        assert not second
    assert any("another process or thread works on" in record.getMessage() for record in records)


@pytest.mark.parametrize("error", [OSError("no locks here"), NotImplementedError("no flock")], ids=repr)
def test_a_file_system_without_locks_is_a_counted_fault(store, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with store.exclusive(KIND, KEY) as held:
        assert not held
    assert store.faults.counts() == {"lock_failed": 1}


def test_a_file_system_without_flock_is_a_counted_fault_and_nobody_waits(tmp_path, store, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "no flock")

    monkeypatch.setattr(fcntl, "flock", missing)
    with store.exclusive(KIND, KEY) as held:
        assert not held
    assert store.faults.counts() == {"lock_failed": 1}
    assert lock_files(store) == []


def test_a_link_in_a_locks_place_is_not_followed(tmp_path, store):
    (tmp_path / "locks" / KIND).mkdir(parents=True)
    (tmp_path / "locks" / KIND / KEY).symlink_to(tmp_path / "elsewhere")
    with store.exclusive(KIND, KEY) as held:
        assert not held
    assert not (tmp_path / "elsewhere").exists()
    assert store.faults.counts() == {"lock_failed": 1}


def test_a_forked_child_neither_holds_nor_releases(tmp_path, store):
    impatient = new_store(tmp_path, lock_timeout=0.0)
    with store.exclusive(KIND, KEY):
        lock = acquire(tmp_path / "lock", 0.0)
        lock._process += 1  # as a child sees it
        lock.release()
        with pytest.raises(Timeout):
            acquire(tmp_path / "lock", 0.0)
        lock._process -= 1
        lock.release()
        with impatient.exclusive(KIND, KEY) as second:
            assert not second
