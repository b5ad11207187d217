"""The line of the user's code that is running."""

from __future__ import annotations

import sys
import sysconfig

_LIBRARIES = ("tpu_dynamo", "tpu_dynamo_lowering", "tpu_dynamo_runtime", "torch")
_STANDARD = sysconfig.get_path("stdlib")


def running_line() -> tuple[str, int] | None:
    """Return file and number of the innermost line of the user's code that is running; None for none in this thread."""
    frame = sys._getframe(1)
    while frame is not None:
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__")).partition(".")[0]
        if module not in _LIBRARIES and not file.startswith(("<", _STANDARD)):
            return file, frame.f_lineno
        frame = frame.f_back
    return None


def users_line() -> str:
    """Return the innermost line of the user's code that is running, as `train.py:12`."""
    found = running_line()
    return "a line that is not known" if found is None else f"{found[0]}:{found[1]}"
