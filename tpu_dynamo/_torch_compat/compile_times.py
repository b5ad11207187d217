"""Dynamo's own measure of its time."""

from __future__ import annotations

from torch._dynamo import utils


def capture_seconds() -> float:
    """Return the seconds that Dynamo spent on frames so far in this process, without those of backends."""
    spent = utils.cumulative_time_spent_ns
    return max(0.0, spent.get("entire_frame_compile", 0.0) - spent.get("backend_compile", 0.0)) / 1e9
