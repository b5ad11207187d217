"""The door to JAX's coordination service, and to jaxlib's clients of the job that this process has joined."""

from __future__ import annotations

import os
import time
from typing import Any

from jax._src import distributed, xla_bridge
from jaxlib import (
    _jax,  # pyright: ignore[reportAttributeAccessIssue]
    xla_client,
)

from .job import Job, JobError, Span, tpu_variables
from .targets import PlatformUnavailable

_joined: list[tuple[Job, Any, Any]] = []


def connect(job: Job) -> Any:
    """Connect to a job's coordination service, which rank 0 starts; return jaxlib's connection.

    Clients that are made from then on span the job's processes. A process that falls silent for `job.heartbeat`
    seconds ends the others. Raises JobError where another job was joined.
    """
    if _joined:
        if _joined[0][0] != job:
            raise JobError(f"this process has joined a job as {_joined[0][0]}, and is to join another, {job}")
        return _joined[0][1]
    patience, service = int(job.patience), None
    if job.rank == 0:
        service = _jax.get_distributed_runtime_service(
            f"[::]:{job.port}", job.size, heartbeat_timeout=job.heartbeat, cluster_register_timeout=patience,
            shutdown_timeout=job.heartbeat,
        )  # fmt: skip
    connection = _jax.get_distributed_runtime_client(
        f"{job.host}:{job.port}", job.rank, init_timeout=patience, heartbeat_timeout=job.heartbeat,
        shutdown_timeout=job.heartbeat, shutdown_on_destruction=False, use_compression=True,
    )  # fmt: skip
    connection.connect()
    _joined.append((job, connection, service))
    state = distributed.global_state  # where plugins' clients look for it
    state.client, state.process_id, state.num_processes = connection, job.rank, job.size
    return connection


def in_job() -> bool:
    """Return True once the process has joined a job."""
    return bool(_joined)


def dead_ranks(span: Span) -> list[int]:
    """Return the ranks of a span that fell silent; waits for the first as long as the job's heartbeat allows."""
    if not _joined:
        return []
    job, connection, _ = _joined[0]
    end = time.monotonic() + job.heartbeat + 10
    while time.monotonic() < end:
        try:
            living = connection.get_live_nodes(list(range(job.size)))
        except _jax.JaxRuntimeError as error:
            if not str(error).startswith("UNAVAILABLE"):
                raise
            return [0] if 0 in span else []  # who keeps the list
        if dead := [rank for rank in span if rank not in living]:
            return dead
        time.sleep(0.5)
    return []


def leave_job() -> None:
    """Leave the job that was joined, when every process does: a process that went earlier would count as dead."""
    for job, connection, service in _joined:
        connection.wait_at_barrier("tpu_dynamo/leave", int(job.patience * 1000))
        connection.shutdown()
        if service is not None:
            service.shutdown()


def make_cpu_client() -> Any:
    """Return a PJRT client of the CPU, with one device of each process of the job, if one was joined."""
    if not _joined:
        return xla_client.make_cpu_client(asynchronous=False)
    job, connection, _ = _joined[0]
    return xla_client.make_cpu_client(
        asynchronous=False,
        distributed_client=connection,
        node_id=job.rank,
        num_nodes=job.size,
        num_devices=1,
        collectives=_jax.make_gloo_tcp_collectives(distributed_client=connection),
    )


def make_plugin_client(platform: str) -> Any:
    """Return the PJRT client of a platform that JAX knows by a plugin. Raises PlatformUnavailable."""
    if platform == "tpu":
        os.environ.update(tpu_variables(os.environ))  # libtpu reads them when it is loaded, which is here
    # libtpu allows one client a process and CUDA reserves most of its memory, so JAX's own client is used.
    try:
        return xla_bridge.get_backend(platform)
    except RuntimeError as error:
        raise PlatformUnavailable(platform, str(error), 'options={"target": "cpu"}, or repair the plugin') from error
