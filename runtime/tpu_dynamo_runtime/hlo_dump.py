"""XLA's own dump of a compile: the buffer assignment, which PJRT's C interface does not pass on.

It imports nothing that imports torch, so that the compiler's process starts quickly.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any


@dataclass(frozen=True)
class Assignment:
    """XLA's decision about a program's memory. proto: a serialised HloProto. hlo: its module as text."""

    proto: bytes
    hlo: str


class Dump:
    """A folder into which one compile dumps. assignment: what it decided, also if it then refused the program."""

    def __init__(self, folder: Path):
        self._folder = folder

    @property
    def assignment(self) -> Assignment | None:
        """The buffer assignment that was dumped; None where the compile did not get as far."""
        protos = sorted(self._folder.glob("*after_optimizations.hlo.pb"))
        if not protos:
            return None
        text = Path(str(protos[-1]).removesuffix(".hlo.pb") + ".txt")
        return Assignment(protos[-1].read_bytes(), text.read_text())


@contextmanager
def dumping(options: Any, parent: Path | None = None) -> Iterator[Dump]:
    """Let a compile with these CompileOptions dump; the files go when the context ends.

    An executable made so names the folder in its options, so it is not one to keep.
    """
    folder = mkdtemp(prefix="tpu_dynamo-dump-", dir=parent)
    try:
        flags = options.executable_build_options.debug_options
        flags.xla_dump_to = folder
        flags.xla_dump_hlo_as_text = flags.xla_dump_hlo_as_proto = True
        yield Dump(Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
