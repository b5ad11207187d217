"""The job that a process is a part of: processes with a device each, which run programs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The ranks of the processes whose devices a program spans, in the order of its replicas; empty for a program of one
# device. Ranks are those of the job; a program itself knows positions alone.
Span = tuple[int, ...]


class JobError(RuntimeError):
    """A process cannot join a job, or is no part of what a program spans."""


class RankLost(RuntimeError):
    """A rank died while a program of several ranks ran."""

    code = "TPU603"

    def __init__(self, ranks: Sequence[int], why: str):
        self.ranks = tuple(ranks)
        named = " and ".join(f"rank {rank}" for rank in ranks)
        super().__init__(
            f"{named} died while this process ran a program together with it\n  XLA says: {why}\n"
            "  try: what it printed last; the job must be started anew, from its last checkpoint\n"
            f"  {self.code}: `tpu-dynamo explain {self.code}` says more"
        )


@dataclass(frozen=True)
class Job:
    """A job as one of its processes sees it.

    rank, size: this process's number, and how many there are. host, port: where rank 0 coordinates them. patience: the
    seconds to wait for the others. heartbeat: the seconds of silence after which a process counts as dead.
    """

    rank: int
    size: int
    host: str
    port: int
    patience: float = 600
    heartbeat: int = 20


# The chips of one host as libtpu arranges them, by their number: "System architecture" of v5e and v6e hosts, and of v4
# and v5p ones with four chips.
_HOST_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
_FIRST_PORT = 8476


def tpu_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a process of torchrun's its own TPU chip, for libtpu to read when it is loaded.

    environment: the process's. Nothing is returned outside of torchrun, for one process a host, which has all chips,
    and where TPU_VISIBLE_CHIPS says already which are its own. Several hosts are named by TPU_WORKER_HOSTNAMES, as TPU
    machines have it. Raises JobError for a number of processes that no host has as chips.
    Source: libtpu's process variables, as jax's cloud_tpu_init and its documentation of several processes name them.
    """
    if "LOCAL_RANK" not in environment or "TPU_VISIBLE_CHIPS" in environment:
        return {}
    local, here = int(environment["LOCAL_RANK"]), int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if here == 1:
        return {}
    if here not in _HOST_BOUNDS:
        raise JobError(
            f"torchrun started {here} processes on this host, and TPU hosts have {sorted(_HOST_BOUNDS)} chips\n"
            "  try: torchrun --nproc-per-node with the number of chips of a host"
        )
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "localhost").split(",")
    rank = int(environment.get("RANK", local))
    bounds = [int(n) for n in _HOST_BOUNDS[here].split(",")]
    if len(hosts) > 1:
        arranged = [int(n) for n in environment.get("TPU_HOST_BOUNDS", f"1,{len(hosts)},1").split(",")]
        bounds = [chips * n for chips, n in zip(bounds, arranged, strict=True)]
    ports = range(_FIRST_PORT, _FIRST_PORT + here)
    return {
        "TPU_VISIBLE_CHIPS": str(local),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": ",".join(map(str, bounds)),
        "TPU_PROCESS_ADDRESSES": ",".join(f"{host}:{port}" for host in hosts for port in ports),
        "TPU_PROCESS_PORT": str(ports[local]),
        "CLOUD_TPU_TASK_ID": str(rank),
    }
