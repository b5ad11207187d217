"""Counts: each is raised by what its name says, and by nothing else."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import torch

import tpu_dynamo
from tpu_dynamo.statistics import Snapshot, Statistics


def test_a_first_call_compiles_and_a_second_only_executes():
    compiled = torch.compile(lambda x: x * 3.25, backend="tpu")
    tpu_dynamo.reset()
    compiled(torch.ones(3))
    first = tpu_dynamo.stats()
    assert (first.graphs, first.lowerings, first.xla_compiles, first.executions) == ({"inference": 1}, 1, 1, 1)
    compiled(torch.ones(3))
    second = tpu_dynamo.stats()
    assert (second.lowerings, second.xla_compiles, second.executions) == (1, 1, 2)


def test_equal_programs_on_other_lines_are_one_program():
    x = torch.ones(5)
    tpu_dynamo.reset()
    first = torch.compile(lambda x: torch.cos(x) * 1.125, backend="tpu")
    second = torch.compile(lambda x: torch.cos(x) * 1.125, backend="tpu")
    first(x), second(x)
    stats = tpu_dynamo.stats()
    assert (stats.lowerings, stats.xla_compiles) == (1, 1)
    assert stats.cache_hits == {"signature": 1, "memory": 1}
    assert stats.cache_misses == {"signature": 1, "memory": 1, "disk": 1}


def test_reset_starts_from_zero():
    torch.compile(lambda x: x + 1, backend="tpu")(torch.ones(3))
    tpu_dynamo.reset_stats()
    assert tpu_dynamo.stats() == Snapshot()


def test_a_snapshot_is_plain_data():
    assert json.loads(json.dumps(Snapshot(graphs={"forward": 2}).as_dict()))["graphs"] == {"forward": 2}
    assert "lowerings: 0" in str(Snapshot())


def test_counting_from_many_threads_loses_nothing():
    statistics = Statistics()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: statistics.count("lowerings"), range(2000)))
        list(threads.map(lambda i: statistics.count("fallbacks", str(i % 2)), range(2000)))
    snapshot = statistics.snapshot()
    assert snapshot.lowerings == 2000
    assert snapshot.fallbacks == {"0": 1000, "1": 1000}
