"""A process that warms one case after the other: `python -m tpu_dynamo.warmup.worker DESCRIPTOR`.

A crash of XLA, or the system's killing of a process that takes too much memory, then ends a case and not the run.
"""

from __future__ import annotations

import resource
import sys
import warnings
from functools import partial
from multiprocessing.connection import Connection

from tpu_dynamo_runtime.worker_process import connect_to_parent, receive, send


def serve(connection: Connection) -> None:
    """Handle requests until the other side hangs up.

    A request is `{"case": …, "checking": …, "push": …, "environment": …}`, or `{"module": …, "folders": …, "names": …}`
    for the cases in a module; answers are `{"stage": …}` and at last `{"outcome": …}` or `{"cases": …}`.
    """
    from .cases import Case
    from .decorator import cases_in
    from .factories import load_module
    from .problems import CaseError
    from .run_case import run_case
    from .target_compilers import makers

    send(connection, {"ready": True})
    with makers() as opened:
        while True:
            try:
                request = receive(connection)
            except EOFError:
                return
            if "module" in request:
                try:
                    module = load_module(request["module"], request["folders"], request["module"])
                    cases = cases_in(module, request["folders"], request["names"])
                    send(connection, {"cases": [case.as_dict() for case in cases]})
                except CaseError as error:
                    send(connection, {"refused": str(error)})
                continue
            case = Case.from_dict(request["case"])
            outcome = run_case(
                case,
                opened,
                partial(_send_stage, connection),
                checking=request["checking"],
                push=request["push"],
                environment=request["environment"],
            )
            if outcome.state == "failed":
                opened.close()  # the compiler's process may be what failed
            send(connection, {"outcome": outcome.as_dict(), "peak": peak_bytes()})


def _send_stage(connection: Connection, stage: str) -> None:
    send(connection, {"stage": stage})


def peak_bytes() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    """Handle the requests of the process that started this one."""
    # They would be repeated for each case, and are not about it.
    warnings.simplefilter("ignore")
    serve(connect_to_parent(int(sys.argv[1])))


if __name__ == "__main__":
    main()
