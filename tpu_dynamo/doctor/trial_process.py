"""The trial's process: what each of its stages found, and how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("trial.py")
_SECONDS = 600.0
_LAST_WORDS = 12


def stages(skipped: tuple[str, ...] = (), seconds: float = _SECONDS) -> Iterator[Mapping[str, Any]]:
    """What each stage found, as the trial tells it, while it goes on.

    A stage in which the process died, or that was not done after `seconds`, has `error`, and `log` with what the
    process said last. The cache of the user is left alone.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-doctor-") as folder, tempfile.TemporaryFile() as log:
        environment = {
            **os.environ,
            # Where this process finds tpu_dynamo, that one does.
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "TPU_DYNAMO_CACHE_DIR": folder,
            "TPU_DYNAMO_CACHE_REMOTE": "",
            "TPU_DYNAMO_CACHE": "on",
        }
        process = subprocess.Popen(
            # -P: the script's folder holds modules that are not meant to be imported by their bare names.
            [sys.executable, "-P", _SCRIPT, *skipped],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        begun: str | None = "the interpreter"
        try:
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    told = json.loads(line)
                    begun = told.get("begins")
                    if begun is None:
                        yield told
        finally:
            timer.cancel()
            process.kill()
        if begun is not None or process.returncode:
            error = f"the process ended with exit status {process.returncode}"
            yield {"stage": begun or "the end", "error": error, "log": _last_words(log)}


def _last_words(log: Any) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-_LAST_WORDS:])
