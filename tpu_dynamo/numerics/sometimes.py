"""options={"check": N}: every N-th call of a graph is checked while a program runs."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

from ..artifacts import record_event
from ..graph.prepare import BoxedCallable, Make, PreparedGraph, Watch
from ..options import Options
from ..session import session
from .check_call import check_call
from .findings import CheckedGraph
from .recording import RecordedCall, RecordingGraph
from .rows import verdict


class WrongResults(UserWarning):
    """A compiled graph's results are not those of eager operators."""


def checking_sometimes(options: Options) -> Watch | None:
    """Return what checks every `options.check`-th call of a graph; None where that is 0.

    The call has its results as ever. A graph with an operator at fault is a warning, WrongResults, once for the graph,
    with the user's line; what was found is counted in `stats()`, and told to the structured trace.
    """
    if not options.check:
        return None

    def watch(graph: PreparedGraph, make: Make, example_inputs: Sequence[Any]) -> BoxedCallable:
        warned = threading.Event()

        def tell(call: RecordedCall) -> None:
            found = check_call(call, options)
            session().statistics.count("checks", verdict(found))
            record_event("checks", lambda: {**found.as_dict(), "verdict": verdict(found), "why": _why(found)})
            if not found.right and not warned.is_set():
                warned.set()
                warnings.warn(_words(found), WrongResults, stacklevel=2)

        return RecordingGraph(graph, make, example_inputs, tell, options.check)

    return watch


def _why(found: CheckedGraph) -> str:
    """Return in one line what is at fault, or why the call could not be compared."""
    return str(found.fault or found.unchecked or "").partition("\n")[0]


def _words(found: CheckedGraph) -> str:
    return (
        f"{found.described}: its results are wrong: {found.fault}\n"
        "  try: tpu_dynamo.check of the same call, whose write_repro writes a script to report"
    )
