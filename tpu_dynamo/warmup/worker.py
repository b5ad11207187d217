"""A process that warms one case after the other: `python -m tpu_dynamo.warmup.worker DESCRIPTOR`.

A crash of XLA, or the system's killing of what takes too much memory, then ends a case and not the run.
"""

from __future__ import annotations

import resource
import sys
import warnings
from functools import partial
from multiprocessing.connection import Connection

from tpu_dynamo_runtime.worker_process import connect_to_parent, receive, send


def serve(connection: Connection) -> None:
    """Answer requests until the other side hangs up.

    A request is `{"case": …, "checking": …, "push": …, "environment": …}`, or `{"module": …, "folders": …, "names": …}`
    for the cases in a module; answers are `{"stage": …}` and at last `{"outcome": …}` or `{"cases": …}`.
    """
    from .cases import Case
    from .decorator import cases_in
    from .factories import load_module
    from .problems import CaseError
    from .run_case import do
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
            tell = partial(_tell, connection)
            outcome = do(
                case,
                opened,
                tell,
                checking=request["checking"],
                push=request["push"],
                environment=request["environment"],
            )
            if outcome.state == "failed":
                opened.close()  # the compiler's process may be what failed
            send(connection, {"outcome": outcome.as_dict(), "peak": peak_bytes()})


def _tell(connection: Connection, stage: str) -> None:
    send(connection, {"stage": stage})


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    """Serve the process that started this one."""
    # Told once for each case they would say nothing of it.
    warnings.simplefilter("ignore")
    serve(connect_to_parent(int(sys.argv[1])))


if __name__ == "__main__":
    main()
