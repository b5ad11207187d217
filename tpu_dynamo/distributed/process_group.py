"""The backend `tpu_dist` of torch.distributed: process groups whose collectives are XLA programs."""

from __future__ import annotations

import os
import socket
from typing import Any

from tpu_dynamo_runtime import Job

from .._torch_compat.dtensor_draws import draw_by_shards
from ..device import NAME as DEVICE
from ..device.generator import drawing_shard
from ..device.operator_programs import device_client
from ._torch_compat import group_with_place_holder
from .link import join, link


def create(options: Any, _: Any = None) -> Any:
    """Return a process group for the device, and for CPU tensors by gloo; the first joins the process to its job.

    options: torch's DistributedBackendOptions. The kernels of c10d's operators for the device do a group's work, so
    that what it keeps for the device does nothing. Raises JobError where the device was used before.
    """
    rank, size = options.group_rank, options.group_size
    draw_by_shards(drawing_shard)
    # Groups of some ranks come after the group of all.
    if size > 1 and link() is None:
        seconds = options.timeout.total_seconds()
        join(Job(rank, size, *_coordinator(options.store, rank), patience=seconds))
        device_client()  # its start waits for all ranks, which are here now
    return group_with_place_holder(DEVICE, options.store, rank, size, options.timeout)


def _coordinator(store: Any, rank: int) -> tuple[str, int]:
    """Return the address at which rank 0 coordinates the job: a free port of its host, told to all by torch's store."""
    if rank == 0:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        store.set("tpu_dynamo/coordinator", f"{_host()} {port}")
    host, port = store.get("tpu_dynamo/coordinator").decode().split()
    return host, int(port)


def _host() -> str:
    """Return the name by which other hosts reach this one, the address of MASTER_ADDR where that is known."""
    return os.environ.get("MASTER_ADDR") or socket.gethostname()
