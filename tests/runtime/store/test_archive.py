"""Archives: what is carried to another store, and that nothing in an archive is believed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tpu_dynamo_runtime.store import BadArchive, Store, archive_members, export_archive, import_archive

from .stores import KEY, KIND, entry_path, kept, key, new_store, put, sections

NAMES = [(KIND, KEY), (KIND, key(1)), ("program", key(2))]


@pytest.fixture
def store(tmp_path) -> Store:
    store = new_store(tmp_path / "store", clock=lambda: 1.7e9)
    put(store, KEY)
    put(store, key(1))
    assert store.put("program", key(2), {"stablehlo": b"module"}, {"graph": "g"})
    return store


@pytest.fixture
def other(tmp_path) -> Store:
    return new_store(tmp_path / "other")


@pytest.fixture
def archive(store, tmp_path) -> Path:
    path = tmp_path / "entries.tar"
    assert all(sound for _, _, sound in export_archive(store, NAMES, path))
    return path


def outcomes(store: Store, archive: Path) -> list[str]:
    return [taken.outcome for taken in import_archive(store, archive)]


def test_entries_come_back_from_an_archive_as_they_were(archive, other):
    assert [(m.kind, m.key) for m in archive_members(archive)] == sorted(NAMES)
    assert outcomes(other, archive) == ["new"] * 3
    found = other.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert kept(other) == {KEY, key(1), key(2)}
    assert not other.faults.counts()


def test_equal_entries_make_equal_archives(archive, store, tmp_path):
    again = tmp_path / "again.tar"
    assert len(list(export_archive(store, reversed(NAMES), again))) == 3
    assert again.read_bytes() == archive.read_bytes()


def test_a_damaged_entry_is_left_out_and_named(store, tmp_path):
    entry_path(store, KEY).write_bytes(b"bad")
    exported = {name: sound for _, name, sound in export_archive(store, NAMES, tmp_path / "out.tar")}
    assert exported == {KEY: False, key(1): True, key(2): True}
    assert len(archive_members(tmp_path / "out.tar")) == 2


def test_an_export_that_fails_leaves_what_was_there(store, tmp_path):
    out = tmp_path / "out.tar"
    out.write_text("before")
    exporting = export_archive(store, NAMES, out)
    next(exporting)
    exporting.close()
    assert out.read_text() == "before"
    assert list(tmp_path.glob(".out.tar*")) == []


def test_what_the_store_has_stays_and_what_is_damaged_there_is_mended(archive, other):
    assert outcomes(other, archive) == ["new"] * 3
    entry_path(other, KEY).write_bytes(b"bad")
    before = entry_path(other, key(1)).stat().st_ino
    assert sorted(outcomes(other, archive)) == ["known", "known", "new"]
    assert entry_path(other, key(1)).stat().st_ino == before
    assert other.get(KIND, KEY) is not None


def test_of_a_cut_archive_no_entry_is_wrong_and_it_is_said(archive, tmp_path):
    whole = archive.read_bytes()
    cut = tmp_path / "cut.tar"
    end = archive_end(archive)
    found = set()
    for length in [*range(0, end, 97), *range(0, end + 1, 512)]:
        cut.write_bytes(whole[:length])
        other = new_store(tmp_path / f"of-{length}")
        with pytest.raises(BadArchive):
            outcomes(other, cut)
        for name in kept(other):
            kind = "program" if name == key(2) else KIND
            assert other.get_file(kind, name) is not None
        found |= kept(other)
        assert not other.faults.counts()
    assert found, "no cut left an entry whole"


def archive_end(archive: Path) -> int:
    """Return the position at which the archive's last member ends: from there on there are zeros."""
    with tarfile.open(archive) as opened:
        last = opened.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512


def test_a_damaged_member_is_refused_and_the_others_are_taken(archive, other):
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as opened:
        member = next(m for m in opened if m.name.endswith(KEY))
    data[member.offset_data + member.size - 1] ^= 1
    archive.write_bytes(data)
    assert sorted(outcomes(other, archive)) == ["damaged", "new", "new"]
    assert kept(other) == {key(1), key(2)}
    assert other.faults.counts() == {"damaged": 1}


def test_an_entry_under_anothers_name_is_refused(store, other, tmp_path):
    path = tmp_path / "forged.tar"
    with tarfile.open(path, "w") as forged:
        data = entry_path(store, KEY).read_bytes()
        member = tarfile.TarInfo(f"entries/{KIND}/{key(9)[:2]}/{key(9)}")
        member.size = len(data)
        forged.addfile(member, io.BytesIO(data))
    assert outcomes(other, path) == ["damaged"]
    assert kept(other) == set()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(f"entries/{KIND}/{KEY[:2]}/{KEY}", tarfile.SYMTYPE, id="link"),
        pytest.param(f"entries/{KIND}/{KEY[:2]}/{KEY}", tarfile.LNKTYPE, id="hard-link"),
        pytest.param(f"entries/{KIND}/{KEY[:2]}/{KEY}", tarfile.FIFOTYPE, id="pipe"),
        pytest.param(f"../entries/{KIND}/{KEY[:2]}/{KEY}", tarfile.REGTYPE, id="above"),
        pytest.param(f"/entries/{KIND}/{KEY[:2]}/{KEY}", tarfile.REGTYPE, id="absolute"),
        pytest.param(f"entries/{KIND}/00/{KEY}", tarfile.REGTYPE, id="shard"),
        pytest.param("entries/../../x", tarfile.REGTYPE, id="dots"),
    ],
)
def test_what_is_no_plain_file_with_an_entrys_name_is_not_read(other, tmp_path, name, kind):
    path = tmp_path / "forged.tar"
    with tarfile.open(path, "w") as forged:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        forged.addfile(member)
    assert outcomes(other, path) == ["damaged"]
    assert archive_members(path) == []
    assert kept(other) == set()


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x89TPUDYN\n" * 200], ids=["empty", "text", "entry"])
def test_what_is_no_archive_is_said_to_be_none(other, tmp_path, data):
    path = tmp_path / "none.tar"
    path.write_bytes(data)
    with pytest.raises(BadArchive):
        archive_members(path)
