"""OpInfo entries in two processes, one after the other, that share a cache: the second lowers and compiles nothing.

    python -m tests.opinfo.processes [--dtypes float32,int64] [--how compiled,device] [--match REGEX] [--every N]

Prints each entry that goes wrong, with what went wrong, and the counts at the end; exits 1 where one does. An entry that
cannot pass (expected_failures.py), or that fails in the first process, must fail in the second alike: it must not end it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

import tpu_dynamo

from . import entries
from .coverage import outcome

HOW = {"compiled": "tpu", "device": "eager on the device"}


@dataclass(frozen=True)
class Case:
    """One entry in one dtype; how: `compiled`, or `device` for eager on the device."""

    how: str
    dtype: str
    entry: str

    def __str__(self) -> str:
        return f"{self.entry}-{self.dtype} {self.how}"


@dataclass(frozen=True)
class Ran:
    """The outcome of a case in one process: `passed`, or what failed; and how often it was lowered and compiled."""

    outcome: str
    lowerings: int = 0
    compiles: int = 0


def cases(hows: Sequence[str], dtypes: Sequence[str], match: str = ".*", every: int = 1) -> list[Case]:
    """The cases whose entries match, or every so manieth of the others."""
    found = []
    for how in hows:
        for dtype in dtypes:
            names = list(entries.entries(getattr(torch, dtype)))
            found += [
                Case(how, dtype, n) for i, n in enumerate(names) if re.match(match, n) or (every and i % every == 0)
            ]
    return found


def in_two_processes(given: Sequence[Case]) -> Iterator[tuple[Case, Ran, Ran]]:
    """Run cases in a process with an empty cache and then in another with the same cache."""
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-opinfo-") as folder:
        environment = dict(
            os.environ, TPU_DYNAMO_CACHE_DIR=f"{folder}/ours", TORCHINDUCTOR_CACHE_DIR=f"{folder}/torchs"
        )
        first = _in_a_process(given, environment)
        second = _in_a_process(given, environment)
        for case in given:
            yield case, first[case], second[case]


def _in_a_process(given: Sequence[Case], environment: dict[str, str]) -> dict[Case, Ran]:
    """Run cases in a child process; after one that ends the process, another child goes on with the rest."""
    ran: dict[Case, Ran] = {}
    while len(ran) < len(given):
        rest = [case for case in given if case not in ran]
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps([asdict(case) for case in rest]))
            child.stdin.close()
            for case, line in zip(rest, child.stdout, strict=False):
                ran[case] = Ran(**json.loads(line))
        if (left := [case for case in rest if case not in ran]) and child.returncode:
            ran[left[0]] = Ran(f"the process ended with {child.returncode}")
    return ran


def _work() -> None:
    """Run the cases that standard input lists; tell what came of each on a line of its own."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what operators print is not ours
    for case in [Case(**fields) for fields in json.load(sys.stdin)]:
        tpu_dynamo.reset_stats()
        dtype = getattr(torch, case.dtype)
        info = entries.entries(dtype)[case.entry]
        found = [outcome(info, sample, False, HOW[case.how]) for sample in entries.samples(info, dtype, 1)]
        failed = [one for one in found if one != "passed"]
        stats = tpu_dynamo.stats()
        results.write(
            json.dumps(asdict(Ran(failed[0] if failed else "passed", stats.lowerings, stats.xla_compiles))) + "\n"
        )


def wrong(first: Ran, second: Ran) -> str | None:
    """Return the fault of a case in the second process, if there is one."""
    if second.outcome != first.outcome:
        return f"first: {first.outcome}; then: {second.outcome}"
    if first.outcome == "passed" and (second.lowerings or second.compiles):
        return f"the second process lowered {second.lowerings} graphs and compiled {second.compiles} programs"
    return None


def main() -> None:
    """Run, print and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", default="float32,int64")
    parser.add_argument("--how", default="compiled,device")
    parser.add_argument("--match", default=".*")
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        _work()
        return
    passed = failed = bad = 0
    for case, first, second in in_two_processes(
        cases(given.how.split(","), given.dtypes.split(","), given.match, given.every)
    ):
        passed += first.outcome == second.outcome == "passed"
        failed += first.outcome != "passed"
        if (why := wrong(first, second)) is not None:
            bad += 1
            print(f"WRONG {case}: {why}", flush=True)
        elif first.outcome != "passed":
            print(f"fails in both {case}: {first.outcome}", flush=True)
    print(
        f"{passed + failed} cases: {passed} pass in both processes, {failed} fail in the first, {bad} wrong in the second"
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
