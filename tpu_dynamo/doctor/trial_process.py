"""The trial's process: it is started here, and what its stages found and how it ended is passed on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tpu_dynamo_runtime.worker_process import WorkerEnded, WorkerProcess

_SCRIPT = Path(__file__).with_name("trial.py")
# For one stage. The slowest compiles a model in a few seconds; a machine ten times slower is no finding.
_SECONDS = 600.0


def stages(skipped: tuple[str, ...] = (), seconds: float = _SECONDS) -> Iterator[Mapping[str, Any]]:
    """Run the trial, and yield what each stage found as soon as it is done.

    A stage in which the process died, or that took longer than `seconds`, has `error`, and `log` with the last lines
    that the process wrote. The cache of the user is left alone.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-doctor-") as folder:
        environment = {
            **os.environ,
            "TPU_DYNAMO_CACHE_DIR": folder,
            "TPU_DYNAMO_CACHE_REMOTE": "",
            "TPU_DYNAMO_CACHE": "on",
        }
        # -P: the script's folder holds modules that are not meant to be imported by their bare names.
        with WorkerProcess("the process", ["-P", str(_SCRIPT), *skipped], environment) as process:
            begun: str | None = "the interpreter"
            while True:
                try:
                    message = process.receive(seconds)
                except WorkerEnded:
                    error = f"the process {process.how_it_ended()}"
                    if begun is not None or process.exit_status():
                        yield {"stage": begun or "the end", "error": error, "log": "\n".join(process.last_lines())}
                    return
                except TimeoutError as late:
                    yield {"stage": begun or "the end", "error": str(late), "log": "\n".join(process.last_lines())}
                    process.kill()
                    return
                begun = message.get("begins")
                if begun is None:
                    yield message
