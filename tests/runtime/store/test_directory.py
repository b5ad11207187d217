"""The directory: where it is, for whom it is made, and when it is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs
import pytest

from tpu_dynamo_runtime.store import clear, default_path, entries, import_entry, open_store, prune, remove, verify
from tpu_dynamo_runtime.store.maintenance import total_bytes, verify_all

from .stores import KEY, KIND, entry_path, key, new_store, put, sections

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def is_off(path: Path | None, why: str) -> None:
    """A store at `path` is refused for this reason: one counted fault, and nothing in it works or raises."""
    store = open_store(path, remote="nothing://cache")
    assert store.faults.counts() == {"directory_refused": 1}
    assert why in store.faults.details()["directory_refused"]
    assert store.get(KIND, KEY) is None
    assert not store.put(KIND, KEY, {}, {})
    with store.exclusive(KIND, KEY) as held:
        assert not held
    store.reject(KIND, KEY, "no")
    assert not store.push(KIND, KEY)
    assert list(entries(store)) == list(verify_all(store)) == []
    assert verify(store, KIND, KEY, repair=True) is None
    assert total_bytes(store) == prune(store, max_bytes=0) == clear(store) == 0
    assert not remove(store, KIND, KEY)
    assert store.faults.counts() == {"directory_refused": 1}


def test_the_environment_is_read_when_a_store_is_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(tmp_path / "here"))
    assert default_path() == tmp_path / "here"
    directory = open_store().directory
    assert directory is not None
    assert directory.root == tmp_path / "here"


def test_without_it_the_users_cache_folder_is_used(monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", "")
    assert default_path() == platformdirs.user_cache_path("tpu_dynamo")


def test_everything_is_made_for_the_user_alone(tmp_path):
    old = os.umask(0)
    try:
        store = new_store(tmp_path / "a" / "b")
        put(store, KEY)
        with store.exclusive(KIND, KEY):
            modes = {path: path.stat().st_mode for path in tmp_path.rglob("*")}
    finally:
        os.umask(old)
    assert {tmp_path / "a", entry_path(store), tmp_path / "a" / "b" / "locks" / KIND / KEY} <= modes.keys()
    for path, mode in modes.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777], ids=oct)
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    is_off(tmp_path / "cache", "others may write to it")


def test_a_directory_that_others_may_read_is_used(tmp_path):
    tmp_path.chmod(0o755)
    put(new_store(tmp_path), KEY)


@as_root
def test_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "cache").mkdir(0o700)
    os.chown(tmp_path / "cache", 12345, 12345)
    is_off(tmp_path / "cache", "it belongs to the user 12345")


@as_root
def test_a_file_of_another_user_is_not_used(tmp_path):
    store = new_store(tmp_path)
    put(store, KEY)
    os.chown(entry_path(store), 12345, 12345)
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"untrusted": 1}


def test_a_file_in_the_directorys_place_is_refused(tmp_path):
    (tmp_path / "file").touch(0o600)
    is_off(tmp_path / "file", "is no directory")
    is_off(tmp_path / "file" / "below", "Not a directory")


def test_a_directory_that_cannot_be_made_is_refused():
    is_off(Path("/proc/nowhere/cache"), "No such file")


def test_the_directory_may_be_a_link_which_is_judged_by_what_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir(0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    put(new_store(tmp_path / "cache"), KEY)
    assert (tmp_path / "disk" / "entries").is_dir()
    (tmp_path / "disk").chmod(0o777)
    is_off(tmp_path / "cache", "others may write to it")


def test_a_circle_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    is_off(tmp_path / "a", "Symlink loop")


@pytest.mark.parametrize("path", [None, Path("~nobody_has_this_name/cache")], ids=str)
def test_a_user_without_a_home_has_no_store(path, monkeypatch):
    monkeypatch.delenv("TPU_DYNAMO_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    is_off(path, "home")


def test_refusal_is_one_warning_that_says_why(tmp_path, records):
    tmp_path.chmod(0o777)
    open_store(tmp_path)
    assert [record.levelname for record in records] == ["WARNING"]
    assert "others may write to it (mode 0777); the store is off" in records[0].getMessage()


def test_a_directory_that_becomes_writable_for_others_is_not_written_to(tmp_path):
    store = new_store(tmp_path)
    put(store, KEY)
    tmp_path.chmod(0o777)
    assert not store.put(KIND, key(1), {}, {})
    with store.exclusive(KIND, KEY) as held:
        assert not held
    assert store.faults.counts() == {"lock_failed": 1, "unwritable": 1}


def test_a_cache_that_is_only_read_gives_entries_and_changes_nothing(tmp_path):
    put(new_store(tmp_path), KEY)
    put(damaged := new_store(tmp_path), key(1))
    entry_path(damaged, key(1)).write_bytes(b"bad")
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    store = open_store(tmp_path, read_only=True, clock=lambda: 2e9)
    found = store.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert store.get(KIND, key(1)) is None
    assert not store.put(KIND, key(2), {}, {})
    with store.exclusive(KIND, key(2)) as held:
        assert not held
    store.reject(KIND, KEY, "no")
    assert prune(store, max_bytes=0) == clear(store) == 0
    assert not remove(store, KIND, KEY)
    assert import_entry(store, entry_path(store)) is None
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    assert {path: (s.st_mtime, s.st_ino) for path, s in after.items()} == {
        path: (s.st_mtime, s.st_ino) for path, s in before.items()
    }
    assert store.faults.counts() == {"damaged": 1, "read_only": 1, "rejected": 1}


def test_a_cache_that_is_only_read_need_not_exist(tmp_path):
    store = open_store(tmp_path / "none", read_only=True)
    assert store.get(KIND, KEY) is None
    assert not (tmp_path / "none").exists()
