"""A process as a part of its job: libtpu's variables from torchrun's, and spans that cannot be."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import JobError, client, tpu_variables


def torchrun(local: int, here: int, **others: str) -> dict[str, str]:
    return {"LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(here), "RANK": str(local), **others}


def test_each_process_of_a_host_gets_a_chip():
    first, last = (tpu_variables(torchrun(local, 4)) for local in (0, 3))
    assert first["TPU_VISIBLE_CHIPS"] == "0" and last["TPU_VISIBLE_CHIPS"] == "3"
    assert first["TPU_PROCESS_BOUNDS"] == "2,2,1" and first["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,1,1"
    assert last["TPU_PROCESS_ADDRESSES"] == ",".join(f"localhost:{8476 + i}" for i in range(4))
    assert last["TPU_PROCESS_PORT"] == "8479" and last["CLOUD_TPU_TASK_ID"] == "3"


def test_processes_of_several_hosts_are_one_topology():
    given = torchrun(1, 4, RANK="5", TPU_WORKER_HOSTNAMES="a,b", TPU_HOST_BOUNDS="1,2,1")
    found = tpu_variables(given)
    assert found["TPU_PROCESS_BOUNDS"] == "2,4,1" and found["CLOUD_TPU_TASK_ID"] == "5"
    assert found["TPU_PROCESS_ADDRESSES"].split(",")[4] == "b:8476"


@pytest.mark.parametrize(
    "given", [{}, torchrun(0, 1), torchrun(0, 4, TPU_VISIBLE_CHIPS="2")], ids=["alone", "one-a-host", "already-said"]
)
def test_nothing_is_said_where_libtpu_knows(given):
    assert tpu_variables(given) == {}


def test_a_number_of_processes_that_no_host_has_chips_for_is_refused():
    with pytest.raises(JobError, match="3 processes on this host"):
        tpu_variables(torchrun(0, 3))


def test_a_span_of_ranks_that_the_process_has_no_job_with_is_refused():
    with pytest.raises(JobError, match=r"the ranks \[0, 1\] cannot run here.*without \[1\]"):
        client("cpu").devices_of((0, 1))
