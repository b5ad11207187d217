"""A worker: a process of its own that answers messages. How it is started, talked to, watched and ended.

Needs neither torch nor jaxlib, in the process that starts a worker and in the worker itself. Messages go over one
socket pair, in both directions, as JSON objects or as plain bytes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import IO, Any

_LAST_LINES = 20
_LAST_BYTES = 1 << 16
# A worker that hears the connection close is idle and has only to end: torch's and XLA's threads, compilers of its own.
# That takes a second, and 6 s were seen on a busy machine; whoever is not done after this long hangs.
_SECONDS_TO_END = 120.0
_SIGNAL_NAMES = {each.value: each.name for each in signal.Signals}
_PR_SET_PDEATHSIG = 1


class WorkerEnded(RuntimeError):
    """The worker has ended, or hung up, before it answered; the message is its exit report."""


class WorkerProcess:
    """A Python process that is started at once, as the leader of a process group of its own.

    Ctrl-C at the terminal reaches this process alone, which then ends the worker. As a context manager it waits for
    the worker at the end of the block, and kills it when the block raises.

    name: for messages, such as "the compiler's process". arguments: of the interpreter; the number of the worker's
    file descriptor for `connect_to_parent` is appended. environment: all variables of the worker. It finds modules
    where this process finds them.
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]):
        self.name = name
        # A file and no pipe: nobody reads while the worker writes. It has no name, so nothing can be left of it.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._log_size_before = 0
        self._was_killed = False
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *arguments, str(theirs.fileno())],
                env={
                    **environment,
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                    # What the worker prints before it crashes is in the log.
                    "PYTHONUNBUFFERED": "1",
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self._process.poll() is not None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a JSON object. Raises WorkerEnded."""
        self.send_bytes(json.dumps(message).encode())

    def send_bytes(self, message: bytes) -> None:
        """Send bytes. Raises WorkerEnded."""
        self._log_size_before = self.log_size()
        try:
            self.connection.send_bytes(message)
        except ConnectionError:
            raise WorkerEnded(self.exit_report()) from None

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message, a JSON object. Raises as `receive_bytes`."""
        return json.loads(self.receive_bytes(timeout))

    def receive_bytes(self, timeout: float | None = None) -> bytes:
        """Return the next message as bytes. Raises WorkerEnded, or TimeoutError when none comes for `timeout` s."""
        try:
            if not self.connection.poll(timeout):
                raise TimeoutError(f"{self.name} did not answer within {timeout:g} s")
            return self.connection.recv_bytes()
        except (EOFError, ConnectionError):
            raise WorkerEnded(self.exit_report()) from None

    def kill(self) -> None:
        """End the process, and all others of its group, with SIGKILL, and wait for its end."""
        # Its number is that of no other group as long as nobody has waited for it.
        if self._process.returncode is None:
            self._was_killed = True
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Close the connection, wait until the process has ended, and kill it where it does not end by itself."""
        self.connection.close()
        self._wait()
        self._log.close()

    def exit_status(self) -> int:
        """Return the status of a process that has hung up: as its parent gets it, negative for a signal."""
        self._wait()
        return self._process.returncode

    def how_it_ended(self) -> str:
        """Return how a process that has hung up ended, as "ended with exit status 1"."""
        status = self.exit_status()
        if self._was_killed:
            return "hung up, did not end, and was killed"
        if status >= 0:
            return f"ended with exit status {status}"
        name = _SIGNAL_NAMES.get(-status, "an unnamed signal")
        if name == "SIGKILL":
            name += ", which is what the system does when memory runs out"
        return f"ended with exit status {status} ({name})"

    def last_lines(self) -> list[str]:
        """Return the last lines that the process has written to stdout and stderr since it was last sent something."""
        start = max(self._log_size_before, self.log_size() - _LAST_BYTES)
        return self.log_from(start).decode(errors="replace").splitlines()[-_LAST_LINES:]

    def exit_report(self) -> str:
        """Return how a process that has hung up ended, and its last lines."""
        how = self.how_it_ended()
        lines = "\n".join(f"    {line}" for line in self.last_lines())
        return f"{self.name} {how}" + (f"; its last lines:\n{lines}" if lines else "")

    def log_size(self) -> int:
        """Return how many bytes the process has written to stdout and stderr."""
        return os.fstat(self._log.fileno()).st_size

    def log_from(self, offset: int) -> bytes:
        """Return what the process has written to stdout and stderr, from a byte on."""
        # The process writes where the file's position is, which it shares: reading must not move it.
        return os.pread(self._log.fileno(), self.log_size() - offset, offset)

    def _wait(self) -> None:
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()  # it may be in the middle of minutes of work that nobody wants any more
        self.close()


def connect_to_parent(descriptor: int) -> Connection:
    """Return a worker's connection to the process that started it, with whose death it dies.

    descriptor: the last argument that the worker was given.
    """
    end_with_parent()
    os.set_inheritable(descriptor, False)
    return Connection(descriptor)


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends, however that ends; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def send(connection: Connection, message: Mapping[str, Any]) -> None:
    """Send a JSON object to the other end."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection) -> dict[str, Any]:
    """Return the next message, a JSON object. Raises EOFError when the other end has hung up."""
    return json.loads(connection.recv_bytes())
