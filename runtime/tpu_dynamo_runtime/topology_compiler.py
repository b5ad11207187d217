"""The compiler for a TPU topology, in a process of its own.

libtpu compiles for chips that are not there, but it does not belong in the user's process. Loading it there (libtpu
0.0.52, observed) locks /tmp/libtpu_lockfile until the process ends, so that no other process of the machine can use a
TPU or compile for one; installs handlers for SIGTERM, SIGSEGV and six other signals, and ignores SIGHUP and SIGPROF;
starts seven threads; writes variables into the C environment behind Python's back; reads the variables of the topology
once, so that a TPU that is attached could no longer be used as what it is; and logs to file descriptor 2 and to
/tmp/tpu_logs. None of it can be undone, but a process can be ended; and a crash of the compiler is then only an error.
"""

from __future__ import annotations

import logging
import os
import tempfile
from types import TracebackType
from typing import Any

from .compilation import Compilation, DoesNotFit, bytes_needed, memory_of
from .environment import Environment, compile_environment
from .hlo_dump import Assignment
from .job import JobError, Span
from .targets import PlatformUnavailable, require_plugin
from .topologies import Topology
from .worker_process import WorkerEnded, WorkerProcess
from .xla_flags import XlaFlags, refusal_of_flag

log = logging.getLogger("tpu_dynamo.runtime.libtpu")


class CompileError(RuntimeError):
    """XLA or libtpu refused a program, or died of it."""


class TopologyCompiler:
    """A compiler of programs for devices of a topology; a context manager around the process that compiles.

    The process starts at once and gets ready while the caller does something else. Raises PlatformUnavailable where
    libtpu is not installed.
    """

    platform = "tpu"

    def __init__(self, topology: Topology):
        require_plugin("tpu")
        self.topology = topology
        self.fast_memory: int | None = topology.chip.vmem
        self._folder = tempfile.TemporaryDirectory(prefix="tpu_dynamo-libtpu-")
        folder = self._folder.name
        self._logged_bytes = 0
        self._process = WorkerProcess(
            "the compiler's process",
            ["-P", "-m", "tpu_dynamo_runtime.topology_worker", topology.name, topology.chip.config, folder],
            _environment(topology, folder, log.isEnabledFor(logging.DEBUG)),
        )
        self._described: dict[str, Any] | None = None
        self._environment: Environment | None = None

    @property
    def environment(self) -> Environment:
        """The compile environment of a process that has all chips of the topology, with this process's flags.

        Platform version, device kind and number of devices are those that libtpu reports for the topology. Raises
        PlatformUnavailable when it does not start, CompileError when it dies.
        """
        if self._environment is None:
            self._environment = self._environment_with(self._wait_until_ready()["devices"])
        return self._environment

    @property
    def environment_in_job(self) -> Environment:
        """The compile environment of a process of a job, which has one chip of the topology."""
        return self._environment_with(1)

    def _environment_with(self, devices: int) -> Environment:
        described = self._wait_until_ready()
        return compile_environment(self.platform, described["platform_version"], described["device_kind"], devices)

    def assignment_of(self, span: Span) -> list[list[int]]:
        """Return where the chips of ranks lie to each other: coordinates from the least ones.

        Ranks have the chips host by host, as torchrun numbers its processes. Raises JobError for ranks without one.
        """
        places = self._wait_until_ready()["places"]
        if missing := [rank for rank in span if rank >= len(places)]:
            raise JobError(f"{self.topology.name} has {len(places)} chips, and none for the ranks {missing}")
        least = [min(numbers) for numbers in zip(*(places[rank] for rank in span), strict=True)]
        return [[n - low for n, low in zip(places[rank], least, strict=True)] for rank in span]

    def serialise(self, executable: Compilation) -> bytes:
        """Return the bytes of an executable, which a client of the topology's chips loads."""
        return executable.executable

    def deserialise(self, data: bytes, span: Span = ()) -> bytes:
        """Return the bytes of `serialise` unchanged: without a chip nothing is loaded."""
        return data

    def compile(self, stablehlo: bytes, flags: XlaFlags = (), span: Span = (), *, explain: bool = False) -> Compilation:
        """Compile MLIR bytecode with one `@main`, for one chip or for those of the ranks in `span`.

        explain: return where its values lie instead of an executable. A program that does not fit is compiled again
        for that. Raises DoesNotFit for a program that needs more memory than the chip has, FlagRefused for a flag or
        its value, CompileError for whatever else XLA refuses, and PlatformUnavailable when libtpu does not start.
        """
        self._wait_until_ready()
        try:
            self._process.send({"flags": flags, "span": span, "explain": explain})
            self._process.send_bytes(stablehlo)
            figures = self._process.receive()
            refused = "error" in figures
            hlo, executable = ("", b"") if refused else (self._receive_text(), self._process.receive_bytes())
            assignment = None
            if figures["explained"]:
                assignment = Assignment(self._process.receive_bytes(), self._receive_text())
        except WorkerEnded as ended:
            raise CompileError(str(ended)) from None
        finally:
            self._pass_on_log()
        if refused:
            if not explain and bytes_needed(figures["error"]) is not None:
                return self.compile(stablehlo, flags, span, explain=True)
            raise self._refusal(figures["error"], flags, assignment)
        memory = memory_of(figures["memory"], self.topology.chip.usable_hbm)
        return Compilation(executable, hlo, memory, int(figures["flops"]), self.topology.chip, assignment)

    def _receive_text(self) -> str:
        return self._process.receive_bytes().decode()

    def _wait_until_ready(self) -> dict[str, Any]:
        """Wait until libtpu has started; return its description of the topology. Raises as `environment`."""
        if self._described is not None:
            return self._described
        try:
            answer = self._process.receive()
        except WorkerEnded as ended:
            raise CompileError(str(ended)) from None
        if "broken" in answer:
            raise PlatformUnavailable(self.topology.name, f"libtpu does not start: {answer['broken']}", "reinstall it")
        self._described = answer["ready"]
        return answer["ready"]

    def _refusal(self, message: str, flags: XlaFlags, assignment: Assignment | None) -> Exception:
        if (refused := refusal_of_flag(self.topology.name, flags, message)) is not None:
            return refused
        needed = bytes_needed(message)
        if needed is None:
            return CompileError(message)
        return DoesNotFit(self.topology.name, needed, self.topology.chip.usable_hbm, message, assignment)

    def _pass_on_log(self) -> None:
        """Log what libtpu has written since the last call."""
        written = self._process.log_from(self._logged_bytes)
        self._logged_bytes += len(written)
        for line in written.decode(errors="replace").splitlines():
            log.debug("%s", line)

    def __enter__(self) -> TopologyCompiler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)
        self._folder.cleanup()


def _environment(topology: Topology, folder: str, talkative: bool) -> dict[str, str]:
    """Return the variables of the compiler's process: the user's, with the topology in the place of this machine's TPU.

    talkative: whether libtpu logs from INFO on, instead of from ERROR on.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TPU_", "CLOUD_TPU_")) or name == "TPU_LIBRARY_PATH"
    }
    return kept | {
        # Do not ask the cloud's metadata server what machine this is: outside of it that takes minutes.
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": topology.chip.accelerator_type,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        # No lock: nothing here opens a chip, and others may.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LOG_DIR": folder,
        "TPU_MIN_LOG_LEVEL": "0" if talkative else "2",
        "TPU_STDERR_LOG_LEVEL": "0" if talkative else "2",
    }
