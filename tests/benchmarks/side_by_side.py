"""Timing several ways to compute one thing, turn by turn, so that a noisy machine is unfair to none of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table


def seconds(ways: Mapping[str, Callable[[], object]], *, rounds: int = 15, per_round: float = 0.05) -> dict[str, float]:
    """The median time of one call of each way. A way that is not ready after three calls is compiled too slowly."""
    repeats = {}
    for name, way in ways.items():
        for _ in range(3):
            way()
        started = time.perf_counter()
        way()
        repeats[name] = max(1, int(per_round / (time.perf_counter() - started)))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                way()
            taken[name].append((time.perf_counter() - started) / repeats[name])
    return {name: statistics.median(times) for name, times in taken.items()}


def show(title: str, rows: Mapping[str, Mapping[str, float]], unit: str, file: Path | None) -> None:
    """Print rows of times, with each as a multiple of the first column, and write them as JSON."""
    scale = {"us": 1e6, "ms": 1e3}[unit]
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(title=f"{title} ({unit}; in brackets the multiple of the first column)")
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left")
    for label, row in rows.items():
        first = row[columns[0]]
        cells = [f"{row[c] * scale:.1f} ({row[c] / first:.2f}x)" if c in row else "" for c in columns]
        table.add_row(label, *cells)
    Console(width=160).print(table)
    if file is not None:
        file.write_text(json.dumps({"title": title, "seconds": rows}, indent=1), encoding="utf-8")
