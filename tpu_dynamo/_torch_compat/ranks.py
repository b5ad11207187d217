"""Tracing of DTensors by one rank for all."""

from __future__ import annotations

import contextlib
from typing import Any

import torch.distributed as dist


def tracing_for_all_ranks() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which graphs of DTensors are traced that are the same on every rank.

    Coordinates in meshes and process groups are then operators of the graph instead of numbers and names. It is for
    AOTAutograd alone: while Dynamo traces, groups would become constants of the graph, which cannot be copied.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return contextlib.nullcontext()
    return dist.config.patch(compile_on_one_rank=True)  # pyright: ignore[reportAttributeAccessIssue]
