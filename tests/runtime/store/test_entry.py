"""Entry files: what is written is read, the header comes alone, and nothing in a file is believed."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tpu_dynamo_runtime.store import entry
from tpu_dynamo_runtime.store.entry import BadEntry, encode, read_entry, read_header

from .stores import KEY, KIND, examples, sections

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


def file_of(content: dict[str, bytes], metadata: dict[str, Any] | None = None) -> io.BytesIO:
    return io.BytesIO(b"".join(encode(KIND, KEY, content, metadata or {}, 7)))


def crafted(frames: bytes = b"", **changes: Any) -> io.BytesIO:
    """A file with right checksums and a header that somebody made up."""
    frame = zstandard.compress(b"12345")
    section = {"name": "a", "size": 5, "stored": len(frame), "sha256": hashlib.sha256(frame).hexdigest()}
    fields = {"kind": KIND, "key": KEY, "created": 7, "metadata": {}, "sections": [section]}
    for name, value in changes.items():
        (section if name in section else fields)[name] = value
    return with_checksum(json.dumps(fields).encode(), frames or frame)


def with_checksum(text: bytes, frames: bytes = b"") -> io.BytesIO:
    start = entry._START.pack(entry.MAGIC, entry.SCHEMA, len(text))
    return io.BytesIO(start + hashlib.sha256(start + text).digest() + text + frames)


@examples
@given(content=st.dictionaries(NAMES, st.binary(max_size=300), max_size=5), metadata=st.dictionaries(st.text(), JSON))
def test_what_is_written_is_read(content, metadata):
    found = read_entry(file_of(content, metadata), KIND, KEY)
    assert found.sections == content
    assert list(found.sections) == list(content)
    assert found.header.metadata == metadata
    assert (found.header.kind, found.header.key, found.header.created) == (KIND, KEY, 7)
    assert found.header.size == sum(map(len, content.values()))


def test_metadata_may_hold_file_names_that_are_no_text():
    assert read_header(file_of({}, {"file": "\udcff"})).metadata == {"file": "\udcff"}


def test_the_header_is_read_without_the_sections():
    data = file_of(sections(KEY), {"graph": "x"}).getvalue()

    class OnlyTheStart(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            read = super().read(size)
            assert self.tell() <= header.sections[0].offset
            return read

    header = read_header(io.BytesIO(data))
    assert read_header(OnlyTheStart(data)).metadata == {"graph": "x"}


def test_only_the_sections_that_are_asked_for_are_read_and_checked():
    file = file_of(sections(KEY))
    executable = read_header(file).sections[0]
    file.getbuffer()[executable.offset] ^= 1
    assert read_entry(file, KIND, KEY, {"stablehlo", "none_such"}).sections == {"stablehlo": b"module {}" * 20}
    with pytest.raises(BadEntry, match=r"checksum .* 'executable'"):
        read_entry(file, KIND, KEY, {"executable"})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"size": 1 << 60}, "beyond the limit", id="size-beyond-the-limit"),
        pytest.param({"size": -1}, "beyond the limit", id="negative-size"),
        pytest.param({"size": True}, "lacks one", id="size-is-a-bool"),
        pytest.param({"size": 5.0}, "lacks one", id="size-is-a-float"),
        pytest.param({"size": 6}, "size of its section", id="size-is-not-the-frames"),
        pytest.param({"size": entry.CONTENT_LIMIT}, "cannot have", id="more-than-zstd-can-expand"),
        pytest.param({"stored": 1 << 60}, "beyond the limit", id="stored-beyond-the-limit"),
        pytest.param({"stored": 0}, "beyond the limit", id="nothing-stored"),
        pytest.param({"stored": 3}, "not what its header says", id="stored-is-not-the-files"),
        pytest.param({"name": "../a"}, "as none is named", id="section-name"),
        pytest.param({"sha256": "00"}, "as none is named", id="short-checksum"),
        pytest.param({"sha256": "0" * 64}, "checksum of its section", id="other-checksum"),
        pytest.param({"extra": 1}, "has others", id="unknown-field"),
        pytest.param({"sections": {}}, "lacks one", id="sections-are-no-list"),
        pytest.param({"sections": [1]}, "lacks one", id="section-is-no-object"),
        pytest.param({"sections": [{}] * 17}, "lists 17", id="too-many-sections"),
        pytest.param({"metadata": []}, "lacks one", id="metadata-is-no-object"),
        pytest.param({"kind": "../x"}, "a name that no entry", id="kind-leaves-the-folder"),
        pytest.param({"key": "../../etc/passwd"}, "a name that no entry", id="key-leaves-the-folder"),
        pytest.param({"key": None}, "lacks one", id="key-is-null"),
    ],
)
def test_a_header_that_lies_is_refused_whatever_its_checksum(changes, why):
    with pytest.raises(BadEntry, match=why):
        read_entry(crafted(**changes), KIND, KEY)


def test_the_crafted_header_is_accepted_unchanged():
    assert read_entry(crafted(), KIND, KEY).sections == {"a": b"12345"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[" * 200_000, id="nested-too-deep"),
        pytest.param(b"\xff\xfe\xff", id="no-text"),
        pytest.param(b'{"kind": NaN}', id="no-number"),
        pytest.param(b"1" * 10_000, id="too-many-digits"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_header_that_is_no_json_is_refused(text):
    with pytest.raises(BadEntry, match="no JSON"):
        read_header(with_checksum(text))


def test_a_header_length_beyond_the_file_is_refused_before_it_is_read():
    start = entry.PREFIX.pack(entry.MAGIC, entry.SCHEMA, entry.HEADER_LIMIT + 1, bytes(32))
    file = io.BytesIO(start + bytes(entry.HEADER_LIMIT + 100))
    with pytest.raises(BadEntry, match="a header of"):
        read_header(file)
    assert file.tell() == len(start)


def test_a_section_listed_twice_is_refused():
    frame = zstandard.compress(b"12345")
    section = {"name": "a", "size": 5, "stored": len(frame), "sha256": hashlib.sha256(frame).hexdigest()}
    with pytest.raises(BadEntry, match="twice"):
        read_header(crafted(frame * 2, sections=[section] * 2))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(zstandard.ZstdCompressor(write_content_size=False).compress(b"12345"), id="size-unknown"),
        pytest.param(zstandard.compress(bytes(1 << 20)), id="more-than-the-header-says"),
        pytest.param(zstandard.compress(b"12345") * 2, id="two-frames"),
        pytest.param(zstandard.compress(b"12345") + b"x", id="bytes-behind"),
        pytest.param(zstandard.compress(b"12345")[:-2], id="cut"),
        pytest.param(b"no zstd at all", id="no-frame"),
    ],
)
def test_a_frame_that_is_not_what_the_header_says_is_refused(frame):
    file = crafted(frame, stored=len(frame), sha256=hashlib.sha256(frame).hexdigest())
    with pytest.raises(BadEntry):
        read_entry(file, KIND, KEY)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("Executable", KEY, id="upper-case-kind"),
        pytest.param("..", KEY, id="kind-leaves-the-folder"),
        pytest.param("", KEY, id="no-kind"),
        pytest.param(KIND, KEY.upper(), id="upper-case-key"),
        pytest.param(KIND, "../" + KEY, id="key-leaves-the-folder"),
        pytest.param(KIND, KEY + "\n", id="line-feed"),
        pytest.param(KIND, "ab", id="too-short"),
        pytest.param(KIND, "a" * 129, id="too-long"),
    ],
)
def test_a_name_that_no_entry_can_have_raises(kind, name):
    with pytest.raises(ValueError, match="names no entry"):
        encode(kind, name, {}, {}, 0)


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        pytest.param({"Executable": b""}, {}, id="section-name"),
        pytest.param({f"a{i}": b"" for i in range(17)}, {}, id="too-many-sections"),
        pytest.param({"a": "text"}, {}, id="section-is-no-bytes"),
        pytest.param({}, {"x": float("nan")}, id="metadata-nan"),
        pytest.param({}, {"x": b""}, id="metadata-bytes"),
    ],
)
def test_what_no_entry_can_hold_raises(content, metadata):
    with pytest.raises((ValueError, TypeError)):
        encode(KIND, KEY, content, metadata, 0)


def test_what_is_beyond_the_limits_is_not_encoded(monkeypatch):
    with pytest.raises(BadEntry, match="header of"):
        encode(KIND, KEY, {}, {"x": "y" * entry.HEADER_LIMIT}, 0)
    monkeypatch.setattr(entry, "CONTENT_LIMIT", 10)
    with pytest.raises(BadEntry, match="11 bytes"):
        encode(KIND, KEY, {"a": bytes(6), "b": bytes(5)}, {}, 0)
