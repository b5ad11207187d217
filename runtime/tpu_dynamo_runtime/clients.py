"""The process's PJRT clients: one a platform, made when first asked for."""

from __future__ import annotations

import logging
import threading
from typing import Any

from .job import Job, JobError
from .pjrt import Client, tpu_chips
from .pjrt_job import connect, in_job
from .targets import resolve

log = logging.getLogger("tpu_dynamo.runtime")

_clients: dict[str, Client] = {}
_lasting: set[Client] = set()
_clients_lock = threading.Lock()


def join_job(job: Job) -> Any:
    """Join a job, as `connect` does, before there is a client. Raises JobError."""
    if _clients and not in_job():
        raise JobError(
            "the device was used before the process joined its job, and its client knows one process alone\n"
            "  try: torch.distributed.init_process_group() before the first tensor on the device"
        )
    return connect(job)


def client(target: str = "auto", *, lasting: bool = False) -> Client:
    """Return the process's client for a target, made when first asked for and then kept.

    lasting: `reset_clients` does not forget it, since tensors hold its buffers. Raises UnknownTarget and
    PlatformUnavailable.
    """
    platform = resolve(target, tpu_chips())
    with _clients_lock:
        if platform not in _clients:
            _clients[platform] = Client(platform)
            log.info("target %r runs on the PJRT platform %s", target, _clients[platform].version.splitlines()[0])
        if lasting:
            _lasting.add(_clients[platform])
        return _clients[platform]


def reset_clients() -> None:
    """Forget the clients that are not lasting; those that executables still hold live on with them."""
    with _clients_lock:
        for platform in [platform for platform, one in _clients.items() if one not in _lasting]:
            del _clients[platform]
