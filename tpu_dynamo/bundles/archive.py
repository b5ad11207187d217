"""Bundles as zip files: written with checksums, and read into memory with every name, size and checksum checked."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..formatting import format_bytes
from .manifest import BadBundle, Manifest, PackedFile

_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 16 << 20
# What a bundle may hold by default, unpacked.
MAX_BYTES = 256 << 20


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes], max_bytes: int = MAX_BYTES) -> Manifest:
    """Write a bundle, and return its manifest with the files in it. Raises BadBundle for one that is too large."""
    total = sum(map(len, files.values()))
    if total > max_bytes:
        largest = max(files, key=lambda name: len(files[name]))
        raise BadBundle(
            f"it would hold {format_bytes(total)}, and {format_bytes(max_bytes)} are allowed; the largest file is "
            f"{largest}\n  try: without values, or a larger --max-size"
        )
    listed = {name: PackedFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    manifest = replace(manifest, files=listed)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, manifest.to_json())
        for name, data in files.items():
            archive.writestr(name, data)
    return manifest


def read_bundle(path: Path, max_bytes: int = MAX_BYTES) -> tuple[Manifest, dict[str, bytes]]:
    """Return a bundle's manifest and files; nothing is written to disk.

    Raises BadBundle for what is no bundle, for files that the manifest does not list or that are not there, for wrong
    sizes and checksums, and for more than `max_bytes`; OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names) or _MANIFEST not in names:
                raise BadBundle("it has no manifest, or files of one name")
            manifest = Manifest.from_json(_read(archive, _MANIFEST, _MANIFEST_BYTES))
            if {*manifest.files, _MANIFEST} != set(names):
                odd = sorted({*manifest.files, _MANIFEST} ^ set(names))
                raise BadBundle(f"its files are not those of its manifest: {', '.join(odd[:3])}")
            total = sum(file.bytes for file in manifest.files.values())
            if total > max_bytes:
                raise BadBundle(f"it holds {format_bytes(total)}, and {format_bytes(max_bytes)} are allowed")
            files = {name: _read(archive, name, file.bytes) for name, file in manifest.files.items()}
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadBundle(f"it is no zip file, or a damaged one: {error}") from error
    for name, file in manifest.files.items():
        if hashlib.sha256(files[name]).hexdigest() != file.sha256:
            raise BadBundle(f"{name} is damaged: its checksum is another")
    return manifest, files


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read a member of at most so many bytes, whatever its header says of its size."""
    with archive.open(name) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise BadBundle(f"{name} is larger than it says")
    return data
