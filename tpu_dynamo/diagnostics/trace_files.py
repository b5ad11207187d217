"""Reads the files that TORCH_TRACE makes torch write, here or on other machines and ranks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .trace_records import PASSED_OVER, READ, Record, kind_of, record_from

# As in `V1123 14:07:30.078000 10295 torch/_dynamo/utils.py:1759] {"str": ["a.py", 0]}`.
_HEAD = re.compile(r"^[VDIWEC]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S.*?:\d+\] ?(\{.*)$")
_RANK = re.compile(r"rank_(\d+)")


class NotATrace(ValueError):
    """A path that holds no structured trace."""


@dataclass
class Trace:
    """The records of one run, with counts of what was not understood."""

    records: list[Record] = field(default_factory=list)
    total: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    processes: list[str] = field(default_factory=list)

    def count(self, kind: str) -> None:
        """Count a record, and note its kind if it is unknown."""
        self.total += 1
        if kind not in READ and kind not in PASSED_OVER and kind != "stack":
            self.unknown[kind] += 1


def read_trace(path: Path) -> Trace:
    """Read the trace in a file, or in all files of a folder and its subfolders.

    Lines that are cut off or are something else are counted and passed over: a process may have been killed while it
    wrote. Raises NotATrace where nothing at all is a record.
    """
    if not path.exists():
        raise NotATrace(f"there is no {path}")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    trace = Trace()
    for file in files:
        _read_file(file, str(len(trace.processes)), trace)
    if not trace.total:
        raise NotATrace(f"{path} holds no records of TORCH_TRACE")
    return trace


def _read_file(file: Path, process: str, trace: Trace) -> None:
    named = _RANK.search(file.name)
    rank = int(named.group(1)) if named else None
    before = trace.total
    for metadata, payload in _read_records(file, trace):
        trace.count(kind_of(metadata))
        if rank is not None:
            metadata.setdefault("rank", rank)
        record = record_from(metadata, payload, process)
        if record is not None:
            trace.records.append(record)
    if trace.total > before:
        trace.processes.append(file.name)


def _read_records(file: Path, trace: Trace) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield metadata and payload of each record; the payload is in the lines behind it that begin with a tab."""
    current: dict[str, Any] | None = None
    payload: list[str] = []
    # Only \n ends a line: payloads hold whatever a user's source does, \r and form feeds among it.
    with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            line = line.removesuffix("\n")
            if line.startswith("\t"):
                payload.append(line[1:])
                continue
            if current is not None:
                yield current, "\n".join(payload) if payload else None
            current, payload = _metadata(line), []
            trace.damaged += current is None and bool(line.strip())
    if current is not None:
        yield current, "\n".join(payload) if payload else None


def _metadata(line: str) -> dict[str, Any] | None:
    head = _HEAD.match(line)
    if head is None:
        return None
    try:
        found = json.loads(head.group(1))
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
