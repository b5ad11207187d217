"""The forms of a graph from FX to XLA, written for people: to dump folders, structured traces and repro folders."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tpu_dynamo_lowering import UnsupportedInput, UnsupportedOp

from ._torch_compat import trace_artifact, trace_event
from .version import versions

_numbers = itertools.count()


def next_name(role: str) -> str:
    """Return a folder name for a graph, unique in this process and sorted by age, as `0003-inference`."""
    return f"{next(_numbers):04d}-{role}"


def record_event(kind: str, describe: Callable[[], Any]) -> None:
    """Write an event of a stage into the structured trace, for the report, as JSON of what `describe` returns.

    `describe` is called only if somebody reads the trace.
    """
    trace_event(f"tpu_dynamo/event/{kind}", lambda: json.dumps(describe()))


def record_unsupported(
    kind: Literal["unsupported", "fallback"], graph: str | None, error: UnsupportedOp | UnsupportedInput
) -> None:
    """Write into the structured trace which operations or inputs of a graph the backend refused.

    kind: `unsupported` where that is an error of the user's program, `fallback` where the graph runs in eager.
    graph: its name; None where it was refused before it had one.
    """
    record_event(kind, lambda: {"graph": graph, "problems": [problem.as_dict() for problem in error.problems]})


@contextmanager
def recording_unsupported_input() -> Iterator[None]:
    """Write an event for an UnsupportedInput that leaves the block. The error goes on to the caller."""
    try:
        yield
    except UnsupportedInput as unsupported:
        record_unsupported("unsupported", None, unsupported)
        raise


@dataclass
class Artifacts:
    """One graph's forms under one name: written to a folder if there is one, and to the structured trace.

    `early` holds forms from before the graph had a name: file name -> writer.
    """

    name: str
    dump_dir: Path | None = None
    early: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file, write in self.early.items():
            self.observe(file, write)
        self.observe("versions.json", lambda: json.dumps(versions(), indent=2))

    def observe(self, file: str, write: Callable[[], str]) -> None:
        """Write one form to the dump folder and the trace; `write` is called only if either is there."""
        trace_artifact(f"tpu_dynamo/{self.name}/{file}", write)
        if self.dump_dir is not None:
            folder = self.dump_dir / self.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(write(), encoding="utf-8")

    def write_repro(self, forms: Mapping[str, str]) -> Path:
        """Write the early forms, `forms` and the versions of a failed graph to a folder, and return that."""
        if self.dump_dir is not None:
            folder = self.dump_dir / self.name
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix=f"tpu_dynamo-repro-{self.name}-"))
        written = {file: write() for file, write in self.early.items()} | dict(forms)
        written["versions.json"] = json.dumps(versions(), indent=2)
        for file, text in written.items():
            (folder / file).write_text(text, encoding="utf-8")
        return folder
