"""Compiled executables on disk, shared by processes and machines: plain bytes by kind and key; knows no compiler.

An executable is native code. Whoever can write into a store's directory, or to its remote URL, decides what the
processes that use it run; checksums find damage, not malice.
"""

from .directory import default_path
from .entry import Entry, Header, Section
from .faults import Fault, Faults
from .maintenance import (
    Listed,
    clear,
    entries,
    export_entry,
    import_data,
    import_entry,
    latest,
    prune,
    remove,
    total_bytes,
    verify,
    verify_all,
)
from .store import DEFAULT_MAX_BYTES, Store, open_store

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Entry",
    "Fault",
    "Faults",
    "Header",
    "Listed",
    "Section",
    "Store",
    "clear",
    "default_path",
    "entries",
    "export_entry",
    "import_data",
    "import_entry",
    "latest",
    "open_store",
    "prune",
    "remove",
    "total_bytes",
    "verify",
    "verify_all",
]
