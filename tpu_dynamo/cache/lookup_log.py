"""A record of a process's look-ups in the cache, for `tpu-dynamo run`: lines of JSON in a folder.

It is written if the environment variable TPU_DYNAMO_RECORD names the folder; each process has a file of its own.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "TPU_DYNAMO_RECORD"

log = logging.getLogger("tpu_dynamo")


def append_record(fields: Callable[[], Mapping[str, Any]]) -> None:
    """Add one line to the process's file. fields: returns its fields; called only where a record is asked for.

    A record that cannot be written is a warning: it is never worth a user's run.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    line = json.dumps({"time": time.time(), "process": os.getpid(), **fields()}) + "\n"
    try:
        # One write to the end of the file: threads do not mix their lines, and a kill leaves whole lines.
        descriptor = os.open(Path(folder) / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("the record of this run, %s=%s, cannot be written: %s", VARIABLE, folder, error)


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every line that processes wrote into a folder, by process; a line that was cut off is left out."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
