"""The user's own lines: that which a thread is at, and samples of a thread's over time."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from functools import lru_cache
from importlib.util import find_spec
from types import FrameType

Place = tuple[str, int]

# A sample takes some 20 us, and the thread that is sampled loses the interpreter meanwhile.
_SECONDS_BETWEEN = 0.005
# Code that is none of the user's: of these packages, of Python's own library, and made by torch.fx.
_PACKAGES = ("torch", "tpu_dynamo", "tpu_dynamo_lowering", "tpu_dynamo_runtime", "jax", "jaxlib")
_GENERATED = ("<eval_with_key", "<frozen ", "<__array_function__")


@lru_cache(maxsize=1)
def _folders() -> tuple[str, ...]:
    found = [find_spec(name) for name in _PACKAGES]
    return tuple(os.path.join(folder, "") for spec in found if spec for folder in spec.submodule_search_locations or ())


@lru_cache(maxsize=1)
def _standard_library() -> str:
    return os.path.join(sysconfig.get_path("stdlib"), "")


@lru_cache(maxsize=65536)
def _is_users(file: str) -> bool:
    # By the file's name, whose hash is kept: that of a code object is computed of all its constants, each time.
    if file.startswith((*_folders(), *_GENERATED)):
        return False
    return not (file.startswith(_standard_library()) and "site-packages" not in file)


def place_of_frame(frame: FrameType | None) -> Place | None:
    """Return the innermost line of a frame and its callers that is the user's or one of their libraries'."""
    # Another thread's frames may end while they are walked, and CPython 3.11 was once seen to give a list for one.
    while isinstance(frame, FrameType):
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


class Sampler:
    """Notes, every five milliseconds, which of the user's lines a thread is at.

    samples: the time in nanoseconds since the epoch, and the line.
    """

    def __init__(self, thread: int):
        self.samples: list[tuple[int, Place | None]] = []
        self._thread = thread
        self._ended = threading.Event()
        self._sampling = threading.Thread(target=self._run, name="tpu_dynamo sampler", daemon=True)

    def start(self) -> None:
        """Start sampling, in a thread of its own."""
        self._sampling.start()

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self._sampling.join()

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            # No name may hold a frame between samples: its tensors would outlive it, and their memory be taken anew.
            self.samples.append((time.time_ns(), place_of_frame(sys._current_frames().get(self._thread))))
