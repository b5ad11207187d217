"""Commands of the user's own, run unchanged, with a record of what their processes look up in the cache and miss."""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..activated import activated
from ..cache.lookup_log import VARIABLE, read_records


@dataclass(frozen=True)
class Recorded:
    """The look-ups in the cache by a command's processes.

    graphs: one for each graph, process and set of sizes: its process, name, role, platform, inputs, whether its program
    and its executable were found (None for one that another graph had loaded), and seconds. operators: how many
    programs of single operators there were, and how many of these were found. entries: kinds and keys. misses: why
    things were not in the cache.
    """

    graphs: list[dict[str, Any]]
    operators: tuple[int, int]
    entries: list[tuple[str, str]]
    misses: list[str]

    @property
    def lowerings(self) -> int:
        """The number of graphs that were lowered."""
        return sum(not graph["program_found"] for graph in self.graphs)

    @property
    def xla_compiles(self) -> int:
        """The number of their programs that were compiled."""
        return sum(graph["executable_found"] is False for graph in self.graphs)


def run_recorded(command: Sequence[str], environment: Mapping[str, str], **output: Any) -> tuple[int, Recorded]:
    """Run a command to its end; return its exit status and the record. Raises OSError when it cannot start.

    environment: all of its variables. output: `stdout` and `stderr` as for subprocess.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-record-") as folder:
        process = subprocess.Popen(command, env=activated({**environment, VARIABLE: folder}), **output)
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                # Ctrl-C goes to the command too, which decides what it does about it.
                continue
        return status, read_recorded(Path(folder))


def read_recorded(folder: Path) -> Recorded:
    """Read the files of a record."""
    graphs: dict[tuple[int, str], dict[str, Any]] = {}
    operators: dict[bool, int] = defaultdict(int)
    entries: dict[tuple[str, str], None] = {}
    misses: list[str] = []
    for line in read_records(folder):
        if line["kind"] == "miss":
            misses.append(line["why"])
            continue
        entries[line["kind"], line["key"]] = None
        if line["graph"] is None:
            operators[line["found"]] += line["kind"] == "program"
            continue
        graph = graphs.setdefault(
            (line["process"], line["graph"]),
            {
                "process": line["process"], "name": line["graph"], "role": None, "platform": None, "inputs": {},
                "program_found": True, "executable_found": None, "seconds": 0.0,
            },
        )  # fmt: skip
        graph["seconds"] = round(graph["seconds"] + line["seconds"], 4)
        graph[f"{line['kind']}_found"] = line["found"]
        graph |= {name: line[name] for name in ("role", "platform", "inputs") if name in line}
    return Recorded(list(graphs.values()), (sum(operators.values()), operators[True]), list(entries), misses)
