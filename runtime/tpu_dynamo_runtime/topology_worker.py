"""The door to libtpu's compiler: a program that compiles for one topology, in a process of its own.

`topology_compiler.py` starts it and says why there is a process. It imports nothing that imports torch: 0.1 s to start
instead of 2 s.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .hlo_dump import Assignment, dumping
from .job import Span
from .worker_process import connect_to_parent, receive, send
from .xla_flags import XlaFlags

_STATS = (
    "argument_size_in_bytes",
    "output_size_in_bytes",
    "alias_size_in_bytes",
    "temp_size_in_bytes",
    "generated_code_size_in_bytes",
)

# From MLIR bytecode, flags, the ranks that it spans and whether to explain it to memory sizes and flops, optimised HLO,
# executable, which is empty where it is explained, and what explains it.
CompileProgram = Callable[[bytes, XlaFlags, Span, bool], tuple[dict[str, Any], str, bytes, Assignment | None]]


class Explained(RuntimeError):
    """XLA's refusal of a program, with where its values would lie, if it got as far."""

    def __init__(self, message: str, assignment: Assignment | None):
        self.assignment = assignment
        super().__init__(message)


def make_compiler(topology: str, config: str, folder: Path) -> tuple[CompileProgram, dict[str, Any]]:
    """Return a compiler for devices of the topology, and PJRT's description of its platform and devices.

    Ranks have the devices host by host, as torchrun numbers processes. folder: for temporary files. Raises ImportError,
    OSError or RuntimeError where libtpu does not start.
    """
    import libtpu
    import numpy as np
    from jaxlib import _jax, xla_client  # noqa: TID251  (one of the two doors to jaxlib)
    from jaxlib.mlir import ir  # noqa: TID251
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext  # noqa: TID251
    from jaxlib.mlir.dialects import chlo, stablehlo  # noqa: TID251

    xla_client.load_pjrt_plugin_dynamically("tpu", os.environ.get("TPU_LIBRARY_PATH") or libtpu.get_library_path())
    xla_client.initialize_pjrt_plugin("tpu")
    arguments = {"chip_config_name": config} if config else {}
    description = xla_client.make_tfrt_tpu_c_api_device_topology(topology, **arguments)
    found = sorted(description._make_compile_only_devices(), key=lambda each: (each.process_index, each.id))
    device = found[0]
    described = {
        "platform_version": description.platform_version,
        "device_kind": device.device_kind,
        "devices": len(found),
        "places": [list(each.coords) for each in found],
    }

    context = ir.Context()
    dialects = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(dialects)
    context.append_dialect_registry(dialects)
    context.load_all_available_dialects()
    chlo.register_dialect(context)
    stablehlo.register_dialect(context)

    def compile(
        program: bytes, flags: XlaFlags, span: Span, explain: bool
    ) -> tuple[dict[str, Any], str, bytes, Assignment | None]:
        try:
            module = ir.Module.parse(program, context)
        except ir.MLIRError as error:
            raise ValueError(str(error)) from error
        devices = _jax.DeviceList(tuple(found[rank] for rank in span) or (device,))
        options, assignment = compile_options(flags, span), None
        if explain:
            executable, assignment = explained(module, devices, options)
        else:
            executable = device.client.compile(module, devices, options)
        stats = executable.get_compiled_memory_stats()
        memory = {name: getattr(stats, name) for name in _STATS}
        # libtpu counts none for a program that computes nothing, such as one of tensors without elements.
        figures = {"memory": memory, "flops": executable.cost_analysis().get("flops", 0)}
        try:
            hlo = "\n".join(module.to_string() for module in executable.hlo_modules())
        except _jax.JaxRuntimeError:
            hlo = dumped_hlo(module, devices, compile_options(flags, span))
        return figures, hlo, b"" if explain else executable.serialize(), assignment

    def explained(module: ir.Module, devices: Any, options: Any) -> tuple[Any, Assignment | None]:
        with dumping(options, folder) as dump:
            try:
                return device.client.compile(module, devices, options), dump.assignment
            except _jax.JaxRuntimeError as error:
                raise Explained(str(error), dump.assignment) from error

    def compile_options(flags: XlaFlags, span: Span) -> _jax.CompileOptions:
        options = _jax.CompileOptions()
        options.env_option_overrides = list(flags)
        if span:
            build = options.executable_build_options
            options.num_replicas = build.num_replicas = len(span)
            numbers = np.array([[found[rank].id] for rank in span])
            options.device_assignment = build.device_assignment = xla_client.DeviceAssignment.create(numbers)
        return options

    def dumped_hlo(module: ir.Module, devices: _jax.DeviceList, options: _jax.CompileOptions) -> str:
        """Compile a second time and return the HLO that libtpu dumps: jaxlib cannot read all HLO of a newer libtpu.

        libtpu 0.0.52 gives operations on SparseCores more operands than jaxlib 0.10.2 allows them.
        """
        options.executable_build_options.debug_options.xla_dump_to = str(folder)
        options.executable_build_options.debug_options.xla_dump_hlo_as_text = True
        device.client.compile(module, devices, options)
        texts = [file.read_text() for file in folder.glob("*.after_codegen.txt")]
        for file in folder.glob("module_*"):
            if file.is_file():
                file.unlink()
        if not texts:
            raise RuntimeError("neither jaxlib nor libtpu gives the optimised HLO of this program")
        return "\n".join(texts)

    return compile, described


def serve(connection: Connection, topology: str, config: str, folder: Path) -> None:
    """Compile each program that is sent behind {"flags": …, "span": …, "explain": …}, until the other side hangs up.

    The answers are {"ready": …} or {"broken": …} at first; then, for each program, {"memory": …, "flops": …}, the HLO
    and the executable, or {"error": …}; and the HloProto and its HLO where "explained" is true in the first of them.
    """
    try:
        compile, described = make_compiler(topology, config, folder)
    except (ImportError, OSError, RuntimeError) as error:
        send(connection, {"broken": str(error)})
        return
    send(connection, {"ready": described})
    while True:
        try:
            request = receive(connection)
            flags = tuple((name, value) for name, value in request["flags"])
            program = connection.recv_bytes()
        except EOFError:
            return
        try:
            figures, hlo, executable, assignment = compile(program, flags, tuple(request["span"]), request["explain"])
        except (RuntimeError, ValueError) as error:  # XLA's errors are a kind of the first
            assignment = error.assignment if isinstance(error, Explained) else None
            send(connection, {"error": str(error), "explained": assignment is not None})
        else:
            send(connection, {**figures, "explained": assignment is not None})
            connection.send_bytes(hlo.encode())
            connection.send_bytes(executable)
        if assignment is not None:
            connection.send_bytes(assignment.proto)
            connection.send_bytes(assignment.hlo.encode())


def main() -> None:
    """Run as `python -m tpu_dynamo_runtime.topology_worker TOPOLOGY CONFIG FOLDER DESCRIPTOR`."""
    topology, config, folder, descriptor = sys.argv[1:]
    # Whoever started us may be killed in the middle of a compile, which would go on for minutes: then we end, too.
    serve(connect_to_parent(int(descriptor)), topology, config, Path(folder))
    # libtpu's threads need no goodbye, and its destructors take time.
    os._exit(0)


if __name__ == "__main__":
    main()
