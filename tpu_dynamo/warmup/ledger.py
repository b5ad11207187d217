"""The ledger of finished cases beside the cache: which are done, and how long each took."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpu_dynamo.version import versions
from tpu_dynamo_runtime.store import entry_path

from .cases import Case

_DONE = ("made", "found")


@dataclass(frozen=True)
class Finished:
    """A case that a run finished: the seconds that it took, and its entries as kinds and keys."""

    seconds: float
    entries: tuple[tuple[str, str], ...]


class Ledger:
    """The cases that were finished with one cache, one line of JSON each, in `warmup/cases.jsonl` of its directory.

    A line is written at once and synced, and one that a kill cut off is ignored. With other versions of torch, jax and
    the like, a case counts as another one. remote: the URL that entries are pushed to; cases that were not pushed there
    then count as not done.
    """

    def __init__(self, directory: Path, remote: str = ""):
        self._directory = directory
        self._remote = remote
        self._file = directory / "warmup" / "cases.jsonl"
        self._versions = versions()
        self._known = self._read()

    def key(self, case: Case) -> str:
        """Return the key of a case in the ledger: a digest of all of its fields, and of the versions."""
        return hashlib.sha256(json.dumps([case.key, self._versions], sort_keys=True).encode()).hexdigest()

    def seconds(self, case: Case) -> float | None:
        """Return the seconds that the case took when it was made; None where that is not known."""
        found = [each for (state, _), each in self._known.get(self.key(case), {}).items() if state == "made"]
        return found[-1].seconds if found else None

    def is_done(self, case: Case) -> bool:
        """Return whether a run finished the case, and all its entries are still in the cache."""
        found = [
            each
            for (state, remote), each in self._known.get(self.key(case), {}).items()
            if state in _DONE and (not self._remote or remote == self._remote)
        ]
        return bool(found) and all(entry_path(self._directory, kind, key).is_file() for kind, key in found[-1].entries)

    def note(self, case: Case, outcome: Mapping[str, Any], seconds: float) -> None:
        """Add a case that has ended, if it was done. Raises OSError where the ledger cannot be written."""
        if outcome["state"] not in _DONE:
            return
        entries = [list(entry) for entry in outcome.get("entries", ())]
        line = {
            "case": self.key(case), "name": case.name, "state": outcome["state"], "seconds": round(seconds, 2),
            "entries": entries, "remote": self._remote, "time": int(time.time()),
        }  # fmt: skip
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # The first line break ends a line that a kill may have cut off before.
            os.write(descriptor, b"\n" + json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._add(line)

    def _read(self) -> dict[str, dict[tuple[str, str], Finished]]:
        self._known = {}
        try:
            text = self._file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return self._known
        for line in text.splitlines():
            try:
                self._add(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue
        return self._known

    def _add(self, line: Mapping[str, Any]) -> None:
        entries = tuple((str(kind), str(key)) for kind, key in line["entries"])
        states = self._known.setdefault(str(line["case"]), {})
        state = str(line["state"]), str(line["remote"])
        states.pop(state, None)  # the latest comes last
        states[state] = Finished(float(line["seconds"]), entries)


def remaining(
    ledger: Ledger, waiting: Iterable[Case], running: Mapping[str, float], jobs: int, mean: float | None
) -> float | None:
    """Estimate the seconds until the end, from each case's earlier time, else from the mean; None without any.

    running: names of cases that are being done, with the seconds that they have had.
    """
    total, known = 0.0, False
    for case in waiting:
        seconds = ledger.seconds(case)
        seconds = mean if seconds is None else seconds
        if seconds is not None:
            known = True
            total += max(seconds - running.get(case.name, 0.0), 0.0)
    return total / max(jobs, 1) if known else None
