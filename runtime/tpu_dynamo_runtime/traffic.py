"""Counts of what executables do: runs, and bytes copied between host and device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Traffic:
    """Runs and copied bytes of all executables that share this object, and buffers that they took over.

    Bytes that host and device share are not counted. Updates are not locked: with several threads calling, a
    count may be lost, never a result.
    """

    executions: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    donations: int = 0
