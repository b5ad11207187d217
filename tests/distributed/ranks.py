"""Processes as torchrun starts them, one a rank, without its agent: quicker, and each rank's output by itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """The output of a rank, and its exit status."""

    status: int
    output: str


def free_port() -> int:
    """Return a port of this host that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_ranks(
    script: Path, size: int, *arguments: str, seconds: float = 120, environment: Mapping[str, str] | None = None
) -> list[Ended]:
    """Run a script on so many ranks; return how each ended. Ranks that take longer are killed."""
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **(environment or {}),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for rank in range(size)
    ]
    ended = []
    for process in processes:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += "\n(killed: it took too long)"
        ended.append(Ended(process.returncode, output))
    return ended


def all_passed(ended: Sequence[Ended]) -> None:
    """Fail with every rank's output unless all ended well."""
    if any(each.status for each in ended):
        raise AssertionError("\n".join(f"--- rank {i}: {each.status}\n{each.output}" for i, each in enumerate(ended)))
