"""Compiled executables on disk, shared by processes and machines: plain bytes by kind and key; knows no compiler.

An executable is native code. Whoever can write into a store's directory, or to its remote URL, decides what the
processes that use it run; checksums find damage, not malice.
"""

from .archive import BadArchive, ImportedMember, Member, archive_members, export_archive, import_archive
from .directory import default_path, entry_path
from .entry import Entry, Header, Section
from .faults import Fault, Faults
from .maintenance import (
    Listed,
    clear,
    discard,
    entries,
    export_entry,
    import_data,
    import_entry,
    latest,
    prune,
    remove,
    to_prune,
    total_bytes,
    verify,
    verify_all,
)
from .store import DEFAULT_MAX_BYTES, Store, open_store

__all__ = [
    "DEFAULT_MAX_BYTES",
    "BadArchive",
    "Entry",
    "Fault",
    "Faults",
    "Header",
    "ImportedMember",
    "Listed",
    "Member",
    "Section",
    "Store",
    "archive_members",
    "clear",
    "default_path",
    "discard",
    "entries",
    "entry_path",
    "export_archive",
    "export_entry",
    "import_archive",
    "import_data",
    "import_entry",
    "latest",
    "open_store",
    "prune",
    "remove",
    "to_prune",
    "total_bytes",
    "verify",
    "verify_all",
]
