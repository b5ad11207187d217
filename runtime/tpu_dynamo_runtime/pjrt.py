"""The door to jaxlib and PJRT: compiling, executing, moving buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache as once
from operator import methodcaller
from typing import Any

import jax
import jax.core
import numpy as np
import torch
from jax._src import hardware_utils
from jax._src.lax.linalg import initialize_lapack
from jaxlib import (
    _jax,  # pyright: ignore[reportAttributeAccessIssue]
    lapack,
    xla_client,
)

from ._torch_compat import tensor_from_dlpack, tensor_to_dlpack
from .buffer_assignment import hlo_proto
from .chips import fast_memory_of
from .compilation import Compilation, DoesNotFit, bytes_needed, memory_of
from .environment import Environment, compile_environment
from .full_memory import full_memory
from .hlo_dump import Assignment, dumping
from .job import JobError, Span
from .pjrt_job import make_cpu_client, make_plugin_client
from .xla_flags import XlaFlags, refusal_of_flag

# PJRT's own buffer and executable, which have no public Python type.
Buffer = Any
LoadedExecutable = Any
ResultsConsumer = Callable[[Any], list[Buffer]]

XlaRuntimeError = _jax.JaxRuntimeError

# What jaxlib makes remembers the Python code on the stack, and so keeps alive what compiled code keeps alive: itself,
# if a compiled function holds it, by way of C++ where no garbage collector looks. Within a scope it remembers less.
Unremembered = _jax.TracebackScope

# Lets go of buffers whose DLPack tensors are gone; jaxlib itself does so at some of its calls. It takes 0.3 us.
release_dropped = _jax.collect_garbage

# From a buffer of the CPU client and None, for streams, to a capsule, of which `tensor_from_dlpack` makes a tensor that
# owns the buffer.
to_dlpack = _jax.buffer_to_dlpack_managed_tensor


# Older releases of jaxlib compare results with their types at each call, unless told not to; jaxlib 0.12 never does.
_UNCHECKED: dict[str, bool] = {"_skip_checks": True} if "_skip_checks" in str(_jax.array_result_handler.__doc__) else {}


def tpu_chips() -> int:
    """Count the TPU chips on this machine's PCI bus, without loading libtpu."""
    return hardware_utils.num_available_tpu_chips_and_device_id()[0]


# Targets that XLA's CPU compiler turns into code of its own, so that nobody registers them.
_OF_XLA = frozenset({"TopK", "mhlo.topk", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"})


def unknown_targets(platform: str, targets: Iterable[str]) -> list[str]:
    """Set up the libraries behind a program's custom-call targets; return the targets that nothing here has registered.

    Lowering does the same on its way; a program that was lowered elsewhere needs it before it runs. LAPACK's targets
    are registered when JAX is imported, but they jump to nowhere until its functions were looked up. Plugins know
    their own targets, and refuse to load what they do not know.
    """
    wanted = set(targets) - _OF_XLA
    if platform != "cpu" or not wanted:
        return []
    lapack = lapack_targets()
    if wanted & lapack:
        initialize_lapack()
    return sorted(wanted - lapack - _jax.custom_call_targets(platform).keys())


@once
def lapack_targets() -> frozenset[str]:
    """Return the names under which jaxlib registers LAPACK's functions."""
    return frozenset(name for name, _, _ in lapack.registrations()["cpu"])


class Client:
    """A PJRT client with the first device of its platform.

    Executions on the CPU client end before `execute` returns: a zero-copied input may be overwritten by its
    owner right after, and nothing is read late.
    """

    # Says what holds the device's memory and what would need less, for an error; who knows the owners sets it.
    held_in_words: Callable[[], str] = str

    def __init__(self, platform: str):
        self.platform = platform
        self._client = make_cpu_client() if platform == "cpu" else make_plugin_client(platform)
        self.device = self._client.local_devices()[0]
        self._devices = _jax.DeviceList((self.device,))
        self._sharding = jax.sharding.SingleDeviceSharding(self.device)

        # XLA reads its flags once, so what the environment says later does not count.
        self.environment = compile_environment(
            platform, self._client.platform_version, self.device.device_kind, len(self._client.local_devices())
        )

    @property
    def environment_in_job(self) -> Environment:
        """The compile environment of programs that span a job's devices: this process's."""
        return self.environment

    @property
    def fast_memory(self) -> int | None:
        """The bytes of memory next to the device's matrix unit, None where that is not known."""
        return fast_memory_of(self.device.device_kind)

    @property
    def version(self) -> str:
        """PJRT's description of itself: platform, versions and build."""
        version = self._client.platform_version
        # The CPU client's is its name alone.
        return version if version == self.platform else f"{self.platform} {version}"

    def compile(self, stablehlo: bytes, flags: XlaFlags = (), span: Span = ()) -> LoadedExecutable:
        """Compile MLIR bytecode with one `@main`, for this device or for those of the ranks in `span`.

        Raises FlagRefused for a flag or its value, JobError for a span that this process cannot be a part of, and
        XlaRuntimeError for whatever else, as XLA words it.
        """
        devices, options = self._placed(span)
        options.env_option_overrides = list(flags)
        try:
            with Unremembered():
                return self._client.compile_and_load(stablehlo, devices, options)
        except XlaRuntimeError as error:
            refused = refusal_of_flag(self.platform, flags, str(error))
            if refused is None:
                raise
            raise refused from None

    def compile_explained(
        self, stablehlo: bytes, flags: XlaFlags = (), span: Span = ()
    ) -> tuple[LoadedExecutable, Assignment | None]:
        """Compile as `compile` does, and return as well where the values lie, by XLA's dump."""
        devices, options = self._placed(span)
        options.env_option_overrides = list(flags)
        with dumping(options) as dump, Unremembered():
            return self._client.compile_and_load(stablehlo, devices, options), dump.assignment

    def does_not_fit(self, stablehlo: bytes, flags: XlaFlags, span: Span, error: Exception) -> DoesNotFit | None:
        """Return the error for a program that XLA refused for its size, compiled again to say what is so large.

        None for every other refusal.
        """
        needed = bytes_needed(str(error))
        if needed is None:
            return None
        devices, options = self._placed(span)
        options.env_option_overrides = list(flags)
        with dumping(options) as dump:
            with suppress(XlaRuntimeError), Unremembered():
                self._client.compile_and_load(stablehlo, devices, options)
            assignment = dump.assignment
        return DoesNotFit(self.platform, needed, self.memory_stats().get("bytes_limit"), str(error), assignment)

    def examine(self, executable: LoadedExecutable, assignment: Assignment | None = None) -> Compilation:
        """Return an executable's bytes, HLO, memory, flops and where its values lie, without running it.

        assignment: by XLA's dump, if there is one; else the executable's own is asked for, which the CPU client has.
        """
        stats = executable.get_compiled_memory_stats()
        named = {name: getattr(stats, name) for name in dir(stats) if name.endswith("_size_in_bytes")}
        hlo, kept = self.optimised_hlo(executable), b"" if assignment else self._client.serialize_executable(executable)
        if assignment is None and (own := stats.serialized_buffer_assignment_proto):
            (module,) = executable.hlo_modules()
            assignment = Assignment(hlo_proto(module.as_serialized_hlo_module_proto(), own), hlo)
        return Compilation(
            kept,
            hlo,
            memory_of(named, self.memory_stats().get("bytes_limit")),
            int(executable.cost_analysis().get("flops", 0)),
            assignment=assignment,
        )

    def serialise(self, executable: LoadedExecutable) -> bytes:
        """Write an executable as bytes for `deserialise`, in this or another process. Raises XlaRuntimeError."""
        return self._client.serialize_executable(executable)

    def deserialise(self, data: bytes, span: Span = ()) -> LoadedExecutable:
        """Load the executable that `serialise` wrote, on this device or on those of the ranks in `span`.

        Raises XlaRuntimeError where PJRT refuses it, and JobError as `compile` does.
        """
        return self._client.deserialize_executable(data, *self._placed(span))

    def _placed(self, span: Span) -> tuple[Any, Any]:
        """Return the devices of a program and XLA's options that assign its replicas to them, in the span's order."""
        options = _jax.CompileOptions()
        if len(span) < 2 and self._client.device_count() == len(self._client.local_devices()):
            return self._devices, options
        devices = [self.device] if len(span) < 2 else self.devices_of(span)
        build = options.executable_build_options
        options.num_replicas = build.num_replicas = len(devices)
        numbers = np.array([[device.id] for device in devices])
        options.device_assignment = build.device_assignment = xla_client.DeviceAssignment.create(numbers)
        return _jax.DeviceList(tuple(devices)), options

    def devices_of(self, span: Span) -> list[Any]:
        """Return the devices of ranks. Raises JobError for ranks that this process cannot run a program with.

        PJRT does not look whether arrays are on an executable's devices: a wrong one takes the process down.
        """
        first: dict[int, Any] = {}
        for device in self._client.devices():
            first.setdefault(device.process_index, device)
        if (missing := [rank for rank in span if rank not in first]) or self.device not in map(first.get, span):
            raise JobError(
                f"a program of the ranks {list(span)} cannot run here: this process has joined a job with the ranks "
                f"{sorted(first)} as rank {self.device.process_index}"
                + (f", without {missing}" if missing else "")
                + "\n  try: torch.distributed.init_process_group() under torchrun, before the device is used"
            )
        return [first[rank] for rank in span]

    def assignment_of(self, span: Span) -> list[list[int]]:
        """Return where the devices of ranks lie to each other: coordinates from the least ones; empty on a CPU."""
        coordinates = [getattr(device, "coords", ()) for device in self.devices_of(span)]
        least = [min(numbers) for numbers in zip(*coordinates, strict=True)]
        return [[n - low for n, low in zip(each, least, strict=True)] for each in coordinates]

    def results_consumer(self, results: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> ResultsConsumer:
        """Return a handler that turns an execution's results into buffers. results: the shape and dtype of each."""
        handlers = [
            _jax.array_result_handler(jax.core.ShapedArray(shape, dtype), self._sharding, committed=True, **_UNCHECKED)
            for shape, dtype in results
        ]
        return methodcaller("consume_with_handlers", handlers)

    def optimised_hlo(self, executable: LoadedExecutable) -> str:
        """Return the HLO that XLA optimised, as text."""
        return executable.get_hlo_text()

    def synchronise(self) -> None:
        """Wait until every execution has ended, that is, until every live buffer has its values.

        Raises DeviceOutOfMemory for one that had no room, and XlaRuntimeError for one that failed otherwise.
        """
        try:
            for buffer in self._client.live_buffers():
                buffer.block_until_ready()
        except XlaRuntimeError as error:
            self.raise_if_memory_is_full(error)
            raise

    def live_bytes(self) -> int:
        """Count the bytes of the buffers that are alive."""
        return sum(buffer.nbytes for buffer in self._client.live_buffers())

    def memory_stats(self) -> dict[str, int]:
        """Return PJRT's statistics of the device's memory, such as `bytes_in_use`; empty where it keeps none."""
        return dict(self.device.memory_stats() or {})

    def raise_if_memory_is_full(self, error: Exception) -> None:
        """Raise DeviceOutOfMemory where an error says that there was no room for a buffer."""
        full = full_memory(str(error), self.memory_stats(), self.live_bytes, self.held_in_words)
        if full is not None:
            raise full from error

    def put_shared(self, tensor: torch.Tensor) -> Buffer:
        """Make a buffer of the CPU client from a dense row-major CPU tensor, without a copy where it is aligned."""
        with Unremembered():
            return _jax.dlpack_managed_tensor_to_buffer(tensor_to_dlpack(tensor), self.device, None)

    def memory_of(self, buffer: Buffer) -> torch.Tensor:
        """Return a CPU tensor over the memory of a buffer of the CPU client, which is not to be written to.

        The tensor holds the buffer; so does jaxlib when the tensor is gone, until `release_dropped`.
        """
        return tensor_from_dlpack(to_dlpack(buffer, None))

    def put_copied(self, array: np.ndarray[Any, Any]) -> Buffer:
        """Copy a host array to the device; the array may change as soon as this returns. Raises DeviceOutOfMemory."""
        aval = jax.core.ShapedArray(array.shape, array.dtype)
        try:
            with Unremembered():
                return _jax.batched_device_put(
                    aval,
                    self._sharding,
                    [array],
                    [self.device],
                    force_copy=True,
                    host_buffer_semantics=_jax.HostBufferSemantics.IMMUTABLE_ONLY_DURING_CALL,
                    enable_x64=True,
                )
        except XlaRuntimeError as error:
            self.raise_if_memory_is_full(error)
            raise

    def take_copied(self, buffers: Sequence[Buffer]) -> list[np.ndarray[Any, Any]]:
        """Copy buffers to host memory; waits for the executions that make them.

        Raises what went wrong in these executions: DeviceOutOfMemory for one that had no room, else XlaRuntimeError.
        """
        try:
            for buffer in buffers:
                buffer.copy_to_host_async()
            return [np.array(buffer) for buffer in buffers]
        except XlaRuntimeError as error:
            self.raise_if_memory_is_full(error)
            raise
