"""A tier of entries elsewhere, that several machines read: any file system that fsspec knows, at arm's length."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .entry import CONTENT_LIMIT, HEADER_LIMIT, is_name
from .faults import Fault, Faults

# After a failure the remote is left alone for this long, so that one that is down does not delay each miss.
_PAUSE = 60.0
_INSTALL = 'pip install "tpu-dynamo[remote]", and what fsspec needs for this URL'


class Remote:
    """Files `<url>/<kind>/<two digits>/<key>`, read, and written only by `push`. Nothing raises; faults are counted.

    The `entries` folder of a store is such a tier too. Nothing here checks what is read.
    """

    def __init__(self, url: str, timeout: float, faults: Faults, clock: Callable[[], float] = time.monotonic):
        self._url = url
        self._timeout = timeout
        self._faults = faults
        self._clock = clock
        self._paused_until = float("-inf")

    def fetch(self, kind: str, key: str) -> bytes | None:
        """Fetch the file of an entry; None where there is none, or no answer in time."""

        def read() -> bytes:
            system, root = _open(self._url)
            path = _path(root, kind, key)
            size = system.info(path)["size"]
            if size > CONTENT_LIMIT + HEADER_LIMIT:
                raise ValueError(f"{size} bytes are more than an entry can have")
            # Never more than was said, whatever has become of the file since.
            return system.cat_file(path, start=0, end=size)

        if self._clock() < self._paused_until:
            return None
        answer = self._ask(read, self._timeout)
        return answer if isinstance(answer, bytes) else None

    def push(self, kind: str, key: str, data: bytes, timeout: float) -> bool:
        """Write the file of an entry; return True if that is done."""

        def write() -> bool:
            system, root = _open(self._url)
            path = _path(root, kind, key)
            # Object stores have no folders, and some would make a bucket.
            if "file" in _names(system.protocol):
                system.makedirs(system._parent(path), exist_ok=True)
            # A reader of a file that is not finished finds the checksums wrong.
            system.pipe_file(path, data)
            return True

        return self._ask(write, timeout) is True

    def names(self, timeout: float) -> list[tuple[str, str, int]] | None:
        """List the kind, key and file size of each remote entry; None where that cannot be found out."""

        def read() -> list[tuple[str, str, int]]:
            system, root = _open(self._url)
            if not system.exists(root):
                return []
            found = []
            for path, status in system.find(root, detail=True).items():
                kind, shard, key = ("", "", *path.split("/"))[-3:]
                if is_name(kind, key) and shard == key[:2]:
                    found.append((kind, key, int(status["size"])))
            return sorted(found)

        answer = self._ask(read, timeout)
        return answer if isinstance(answer, list) else None

    def _ask(self, function: Callable[[], Any], timeout: float) -> Any:
        """Call `function` in a thread and return its result; None after `timeout` seconds or an error, both counted."""
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(function())
            except Exception as error:  # noqa: BLE001 - fsspec passes on what the client of each service raises
                answers.append(error)

        # Not every file system has timeouts. A daemon thread can be left behind; a pool's would be waited for when the
        # interpreter ends.
        thread = threading.Thread(target=ask, name="tpu_dynamo remote store", daemon=True)
        thread.start()
        thread.join(timeout)
        answer = answers[0] if answers else None
        if not answers:
            self._faults.count(Fault.REMOTE_SLOW, f"{self._url} did not answer in {timeout:.0f} s")
        elif isinstance(answer, ImportError):
            self._faults.count(Fault.REMOTE_FAILED, f"{self._url}: {answer}; try: {_INSTALL}")
        elif isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
            self._faults.count(Fault.REMOTE_FAILED, f"{self._url}: {type(answer).__name__}: {answer}")
        else:
            return answer
        self._paused_until = self._clock() + _PAUSE
        return None


def _open(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path on it."""
    # Imported only where there is a remote: it is an extra.
    import fsspec.core

    return fsspec.core.url_to_fs(url)


def _path(root: str, kind: str, key: str) -> str:
    return f"{root.rstrip('/')}/{kind}/{key[:2]}/{key}"


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol
