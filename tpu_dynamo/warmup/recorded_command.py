"""The files of a recorded command: a manifest that replays it, and a report."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..formatting import format_count
from .commands import Recorded


def as_manifest(command: Sequence[str], found: Recorded, cwd: str = ".") -> str:
    """Return a manifest with the command as its one case.

    Only the command itself is known to reach the code that its graphs come from, so it is run again to fill another
    cache. Comments list what it compiled, from which cases of models can be written instead. cwd: where it ran,
    relative to the manifest's folder.
    """
    name = re.sub(r"\W+", "-", Path(command[-1] if len(command) == 1 else _script(command)).stem).strip("-") or "run"
    lines = [
        "# Written by `tpu-dynamo run`. `tpu-dynamo warmup` with this file runs the command again, to fill another",
        "# cache, and with --check says whether it would find everything in the cache.",
        "schema = 1",
        "",
        f"[model.{json.dumps(name)}]",
        f"command = {json.dumps(list(command), ensure_ascii=False)}",
        f"cwd = {json.dumps(cwd, ensure_ascii=False)}",
        "",
        "# What it compiled. A case that needs no data has a `factory` and these inputs instead: docs/warmup.md.",
    ]
    seen: dict[str, None] = {}
    for graph in found.graphs:
        inputs = ", ".join(f"{name}: {format_tensor(spec)}" for name, spec in user_inputs(graph["inputs"]).items())
        seen.setdefault(f"#   {graph['role']} on {graph['platform']}" + (f": {inputs}" if inputs else ""))
    return "\n".join([*lines, *seen]) + "\n"


def as_data(command: Sequence[str], status: int, found: Recorded, seconds: float) -> dict[str, Any]:
    """Return a recorded command as plain data, for `--json` and the report."""
    return {
        "schema": 1,
        "command": list(command),
        "status": status,
        "seconds": round(seconds, 2),
        "lowerings": found.lowerings,
        "xla_compiles": found.xla_compiles,
        "graphs": found.graphs,
        "operators": {"programs": found.operators[0], "found": found.operators[1]},
        "misses": found.misses,
    }


def as_report(data: Mapping[str, Any]) -> str:
    """Return the report for people, as Markdown. data: from `as_data`."""
    graphs, operators = data["graphs"], data["operators"]
    processes = format_count(len({graph["process"] for graph in graphs}), "process")
    programs = format_count(len(graphs), "program")
    lines = [
        f"# `{shlex.join(data['command'])}`",
        "",
        f"Exit status {data['status']} after {data['seconds']:.1f} s. {programs} of graphs in {processes}: "
        f"{data['lowerings']} lowered, {data['xla_compiles']} compiled, the rest found in the cache.",
    ]
    if operators["programs"]:
        made = format_count(operators["programs"], "program")
        lines += ["", f"{made} of single operators, {operators['found']} found in the cache."]
    lines += [
        "",
        "| process | graph | platform | program | executable | seconds | inputs |",
        "| --- | --- | --- | --- | --- | ---: | --- |",
    ]
    words = {True: "found", False: "made", None: "loaded already"}
    for graph in graphs:
        inputs = "; ".join(f"`{name}` {format_tensor(spec)}" for name, spec in user_inputs(graph["inputs"]).items())
        cells = [
            str(graph["process"]), graph["name"], str(graph["platform"]), words[graph["program_found"]],
            words[graph["executable_found"]], f"{graph['seconds']:.2f}", inputs,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if data["misses"]:
        lines += ["", "## Why things were not in the cache", "", *(f"* {miss}" for miss in data["misses"])]
    return "\n".join(lines) + "\n"


def write(folder: Path, command: Sequence[str], data: Mapping[str, Any], found: Recorded) -> list[Path]:
    """Write manifest.toml, report.md and report.json into a folder, made if missing; return their paths.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "manifest.toml": as_manifest(command, found, os.path.relpath(Path.cwd(), folder)),
        "report.md": as_report(data),
        "report.json": json.dumps(data, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def user_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Select the inputs that are arguments of the user's code, without parameters and those that AOTAutograd named."""
    return {name: spec for name, spec in inputs.items() if name.startswith("L[") and "._" not in name}


def format_tensor(spec: Mapping[str, Any]) -> str:
    """Format a tensor's dtype and sizes, as `float32[8, 16]`."""
    return f"{spec['dtype']}[{', '.join(map(str, spec['size']))}]"


def _script(command: Iterable[str]) -> str:
    """Return the word of a command line that names it: its first script, else its first word."""
    words = list(command)
    return next((word for word in words if word.endswith(".py")), words[0])
