"""The report of a run as files: report.json for programs, report.md for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..formatting import format_count


def write_report(folder: Path, data: Mapping[str, Any]) -> list[Path]:
    """Write both files into a folder, made if missing; return their paths. Raises OSError.

    data: from `scheduler.as_data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"report.json": json.dumps(data, indent=2, ensure_ascii=False) + "\n", "report.md": as_markdown(data)}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def as_markdown(data: Mapping[str, Any]) -> str:
    """Return a table of the cases, and the messages of each case that has some, as Markdown."""
    what = "Check" if data["check"] else "Warmup"
    lines = [
        f"# {what} of {format_count(len(data['cases']), 'case')} in {data['seconds']:.1f} s",
        "",
        "| case | result | programs | lowered | compiled | trace | lower | compile | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in data["cases"]:
        stages = [f"{case['stages'].get(stage, 0.0):.2f}" for stage in ("trace", "lower", "compile")]
        cells = [
            f"`{case['name']}`", case["state"], str(len(case["graphs"])), str(case["lowerings"]),
            str(case["xla_compiles"]), *stages, f"{case['seconds']:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for case in data["cases"]:
        messages = [case["why"] or "", *case["missing"], *case["notes"]]
        text = "\n".join(each for each in messages if each)
        if text:
            lines += ["", f"## {case['name']}", "", "```", text, "```"]
    return "\n".join(lines) + "\n"
