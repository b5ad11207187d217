"""The file of an entry: a header that can be read alone, then named sections, compressed, each with its checksum.

| bytes | what                                                                               |
| ----- | ---------------------------------------------------------------------------------- |
| 8     | magic                                                                              |
| 4     | schema version, little-endian                                                      |
| 4     | length of the header, little-endian                                                |
| 32    | SHA-256 of the 16 bytes above and the header                                       |
| ...   | the header: JSON, UTF-8                                                            |
| ...   | the sections in the header's order, each one zstd frame, nothing between or behind |

A section's SHA-256 is that of its compressed bytes: nothing that is unchecked reaches the decompressor. The frame
carries zstd's own checksum of the content.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import zstandard

from .faults import Fault

MAGIC = b"\x89TPUDYN\n"
SCHEMA = 1
PREFIX = struct.Struct("<8sII32s")
_START = struct.Struct("<8sII")

# Lengths are checked against these before anything of that length is read or allocated.
HEADER_LIMIT = 4 << 20
SECTIONS_LIMIT = 16
CONTENT_LIMIT = 4 << 30

# A block of zstd holds at most 128 KiB and takes at least 4 bytes.
_EXPANSION_LIMIT = (128 << 10) // 4
# What one frame can take beyond its content: header, checksum and block headers.
_OVERHEAD_LIMIT = 1 << 10
_LEVEL = 3

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_KEY = re.compile(r"[0-9a-f]{16,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadEntry(ValueError):
    """A file that is no sound entry. fault: the name under which it is counted."""

    def __init__(self, fault: Fault, why: str):
        self.fault = fault
        super().__init__(why)


@dataclass(frozen=True)
class Section:
    """A section's place in the file, and its size before (`size`) and after (`stored`) compression."""

    name: str
    size: int
    stored: int
    sha256: str
    offset: int


@dataclass(frozen=True)
class Header:
    """An entry without its sections' contents. created: seconds since 1970. metadata: JSON values of its writer."""

    kind: str
    key: str
    created: int
    metadata: Mapping[str, Any]
    sections: tuple[Section, ...]

    @property
    def size(self) -> int:
        """Bytes of all sections before compression."""
        return sum(section.size for section in self.sections)


@dataclass(frozen=True)
class Entry:
    """An entry that was read: its header, and the content of the sections that were asked for."""

    header: Header
    sections: Mapping[str, bytes]


def is_name(kind: str, key: str) -> bool:
    """Return True if the kind is a plain word and the key of lower-case hexadecimal digits, as an entry's must be."""
    return bool(_KIND.fullmatch(kind) and _KEY.fullmatch(key))


def check_name(kind: str, key: str) -> None:
    """Raise ValueError for a name that no entry can have."""
    if not is_name(kind, key):
        raise ValueError(
            f"({kind!r}, {key!r}) names no entry: a kind is up to 32 lower-case letters, digits and _, a key is 16 to "
            "128 lower-case hexadecimal digits"
        )


def encode(
    kind: str, key: str, sections: Mapping[str, bytes], metadata: Mapping[str, Any], created: int
) -> list[bytes]:
    """Encode an entry as the bytes of its file, in pieces.

    Raises BadEntry when a limit of the format is exceeded, and ValueError or TypeError for names that are none and
    for metadata that JSON cannot hold.
    """
    check_name(kind, key)
    if len(sections) > SECTIONS_LIMIT or not all(_KIND.fullmatch(name) for name in sections):
        raise ValueError(f"{list(sections)} are no section names: at most {SECTIONS_LIMIT}, letters, digits and _")
    if (size := sum(map(len, sections.values()))) > CONTENT_LIMIT:
        raise BadEntry(Fault.TOO_LARGE, f"{size} bytes are more than an entry's limit of {CONTENT_LIMIT}")
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
    frames = [compressor.compress(content) for content in sections.values()]
    fields = {
        "kind": kind,
        "key": key,
        "created": created,
        "metadata": dict(metadata),
        "sections": [
            {"name": name, "size": len(content), "stored": len(frame), "sha256": hashlib.sha256(frame).hexdigest()}
            for (name, content), frame in zip(sections.items(), frames, strict=True)
        ],
    }
    text = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > HEADER_LIMIT:
        raise BadEntry(Fault.TOO_LARGE, f"a header of {len(text)} bytes is more than the limit of {HEADER_LIMIT}")
    start = _START.pack(MAGIC, SCHEMA, len(text))
    return [start, hashlib.sha256(start + text).digest(), text, *frames]


def read_entry(file: BinaryIO, kind: str, key: str, only: Collection[str] | None = None) -> Entry:
    """Read the entry in a file, checked to be the one of this name, with all sections or `only` these.

    A section that the entry lacks is left out. Raises BadEntry and OSError.
    """
    header = _named_header(file, kind, key)
    sections = [section for section in header.sections if only is None or section.name in only]
    return Entry(header, {section.name: _content(file, section) for section in sections})


def check_entry(file: BinaryIO, kind: str, key: str) -> Header:
    """Check that a file is the entry of this name, and every section; return its header. Raises as read_entry."""
    header = _named_header(file, kind, key)
    for section in header.sections:
        _content(file, section)  # dropped one by one: all together may be more than memory holds
    return header


def read_header(file: BinaryIO) -> Header:
    """Read the header, which is at the beginning of an entry's file. Raises BadEntry and OSError."""
    file_size = file.seek(0, io.SEEK_END)
    file.seek(0)
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        raise _damaged(f"{file_size} bytes are too few")
    magic, schema, length, digest = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise _damaged("it does not begin as an entry does")
    if schema != SCHEMA:
        raise BadEntry(Fault.FOREIGN_VERSION, f"its schema version is {schema}, not {SCHEMA}")
    if length > HEADER_LIMIT or length > file_size - PREFIX.size:
        raise _damaged(f"a header of {length} bytes cannot be in it")
    text = file.read(length)
    if hashlib.sha256(prefix[: _START.size] + text).digest() != digest:
        raise _damaged("its header's checksum is wrong")
    header = _parsed(text)
    if sum(section.stored for section in header.sections) != file_size - PREFIX.size - length:
        raise _damaged(f"{file_size} bytes are not what its header says")
    return header


def _named_header(file: BinaryIO, kind: str, key: str) -> Header:
    header = read_header(file)
    if (header.kind, header.key) != (kind, key):
        raise BadEntry(Fault.MISPLACED, f"it is the entry {header.kind} {header.key}")
    return header


def _content(file: BinaryIO, section: Section) -> bytes:
    file.seek(section.offset)
    frame = file.read(section.stored)
    if hashlib.sha256(frame).hexdigest() != section.sha256:
        raise _damaged(f"the checksum of its section {section.name!r} is wrong")
    try:
        # The decompressor allocates what the frame says, which therefore must be what the header says.
        if zstandard.frame_content_size(frame) != section.size:
            raise _damaged(f"the size of its section {section.name!r} is wrong")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _damaged(f"its section {section.name!r} cannot be decompressed: {error}") from error


def _parsed(text: bytes) -> Header:
    """Parse the header's JSON, of which nothing is believed: a valid checksum proves no good intention."""
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is no JSON: {error}") from error
    kind, key, created, metadata, listed = _values(fields, kind=str, key=str, created=int, metadata=dict, sections=list)
    if not is_name(kind, key):
        raise _damaged("its header has a name that no entry can have")
    if len(listed) > SECTIONS_LIMIT:
        raise _damaged(f"its header lists {len(listed)} sections")
    sections, offset = [], PREFIX.size + len(text)
    for item in listed:
        name, size, stored, sha256 = _values(item, name=str, size=int, stored=int, sha256=str)
        if not (_KIND.fullmatch(name) and _SHA256.fullmatch(sha256)):
            raise _damaged("its header names a section as none is named")
        if not (0 <= size <= CONTENT_LIMIT and 0 < stored <= CONTENT_LIMIT + _OVERHEAD_LIMIT):
            raise _damaged(f"the size of its section {name!r} is beyond the limit")
        if size > stored * _EXPANSION_LIMIT:
            raise _damaged(f"its section {name!r} cannot have {size} bytes in {stored}")
        sections.append(Section(name, size, stored, sha256, offset))
        offset += stored
    if len({section.name for section in sections}) < len(sections) or sum(s.size for s in sections) > CONTENT_LIMIT:
        raise _damaged("its header lists sections twice, or too many bytes")
    return Header(kind, key, created, metadata, tuple(sections))


def _values(fields: Any, **types: type) -> list[Any]:
    """Return the values of a JSON object that must have exactly these fields of these types. Raises BadEntry."""
    # bool is an int to isinstance, but not here.
    if type(fields) is not dict or {name: type(value) for name, value in fields.items()} != types:
        raise _damaged(f"its header lacks one of {', '.join(types)}, or has others")
    return [fields[name] for name in types]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _damaged(why: str) -> BadEntry:
    return BadEntry(Fault.DAMAGED, why)
