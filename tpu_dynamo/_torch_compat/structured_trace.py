"""torch's structured trace."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch._logging import trace_structured


def trace_artifact(name: str, write: Callable[[], str]) -> None:
    """Write a form of a graph to the structured trace, for tlparse; `write` is called only if somebody reads forms."""
    if forms_are_read():
        trace_event(name, write)


def forms_are_read() -> bool:
    """Return True while somebody reads the forms of graphs in the structured trace."""
    # The report reads records and no forms; an optimised program's text can take longer than compiling it.
    return any(getattr(handler, "reads_forms", True) for handler in logging.getLogger("torch.__trace").handlers)


def trace_event(name: str, write: Callable[[], str]) -> None:
    """Write an artifact to the structured trace; `write` is called only while somebody reads the trace."""
    trace_structured("artifact", metadata_fn=lambda: {"name": name, "encoding": "string"}, payload_fn=write)
