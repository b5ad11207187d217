"""The trial: imports, clients, and small models compiled, in a process of its own, since any of them may end it.

Run as a script: as a module of its package it would import torch before the first stage. It sends {"begins": STAGE}
before each stage and then {"stage": STAGE, "seconds": …, …} with what it found, or with "error". Its arguments are the
stages to leave out, and the number of its file descriptor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tpu_dynamo_runtime.worker_process import connect_to_parent, send

TOPOLOGY = "v5e:2x2"


def import_torch() -> dict[str, Any]:
    """Import PyTorch."""
    import torch

    return {"version": torch.__version__}


def import_torch_mlir() -> dict[str, Any]:
    """Import torch-mlir, through the one module that does."""
    from tpu_dynamo_lowering import mlir

    return {"module": mlir.__name__}


def open_cpu() -> dict[str, Any]:
    """Open PJRT's CPU client."""
    from tpu_dynamo_runtime import client

    cpu = client("cpu")
    return {"version": cpu.version, "CPUs": cpu.environment["CPUs"]}


def find_platforms() -> dict[str, Any]:
    """Find what else there is to run on, without opening it."""
    from tpu_dynamo_runtime import plugin_installed, resolve, tpu_chips

    chips = tpu_chips()
    plugins = {platform: plugin_installed(platform) for platform in ("tpu", "cuda")}
    return {"chips": chips, "plugins": plugins, "auto": resolve("auto", chips)}


def register_device() -> dict[str, Any]:
    """Register torch.device("tpu"), or find who has taken the place of such devices."""
    from tpu_dynamo.device import DeviceNameTaken, register

    try:
        register()
    except DeviceNameTaken as taken:
        return {"owner": taken.owner}
    return {"owner": "tpu-dynamo"}


def find_backend() -> dict[str, Any]:
    """Find the function that Dynamo takes for the backend `tpu`."""
    from tpu_dynamo.doctor._torch_compat import lookup_backend

    found: Any = lookup_backend("tpu")
    return {"module": found.__module__, "name": getattr(found, "__qualname__", str(found))}


def compile_and_compare() -> dict[str, Any]:
    """Compile and run a small model, forward and backward, and compare it with eager PyTorch."""
    import torch

    import tpu_dynamo

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4)
    )
    inputs = torch.randn(8, 16)

    def run(function: Callable[..., Any]) -> list[torch.Tensor]:
        model.zero_grad()
        out = function(inputs)
        out.square().mean().backward()
        return [out.detach().clone(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    expected = run(model)
    actual = run(torch.compile(model, backend="tpu_dynamo", fullgraph=True))
    apart = max(
        float((a - e).abs().max() / e.abs().max().clamp(min=1e-6)) for a, e in zip(actual, expected, strict=True)
    )
    stats = tpu_dynamo.stats()
    return {"apart": apart, "graphs": stats.graphs, "executions": stats.executions, "tensors": len(expected)}


def compile_for_topology() -> dict[str, Any]:
    """Compile a small model for a TPU that is not there."""
    import torch

    import tpu_dynamo

    with torch.device("meta"):
        model, inputs = torch.nn.Linear(128, 128), torch.empty(8, 128)
    (graph,) = tpu_dynamo.compile_for(model, (inputs,), target=TOPOLOGY)
    return {"cycles": graph.cost.cycles, "bytes": len(graph.executable)}


STAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "import torch": import_torch,
    "import torch-mlir": import_torch_mlir,
    "PJRT's CPU client": open_cpu,
    "platforms": find_platforms,
    'torch.device("tpu")': register_device,
    "the backend": find_backend,
    "compile and compare": compile_and_compare,
    f"compile for {TOPOLOGY}": compile_for_topology,
}


def main(connection: Connection, skipped: list[str]) -> None:
    """Go through the stages, without those that are `skipped`, and send what each found."""
    for stage, attempt in STAGES.items():
        if stage not in skipped:
            send(connection, {"begins": stage})
            send(connection, _try_stage(stage, attempt))


def _try_stage(stage: str, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        found = attempt()
    except Exception as error:  # noqa: BLE001 - whatever is broken here is what the doctor is asked for
        found = {"error": f"{type(error).__name__}: {error}", "code": getattr(error, "code", None)}
    return {"stage": stage, "seconds": round(time.perf_counter() - started, 2), **found}


if __name__ == "__main__":
    main(connect_to_parent(int(sys.argv[-1])), sys.argv[1:-1])
