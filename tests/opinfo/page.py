"""Writes docs/ops.md's table: each operator, how it is lowered, and with which dtypes and tests it agreed with eager.

    python -m tests.opinfo.page [--tables]

Runs the first samples of every OpInfo entry, and the gradients of the first, and notes the operators that the passing
ones consist of. Takes about half an hour; with --tables it keeps what the page says of tests, and is done at once.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch.fx import Node

import tpu_dynamo_lowering.expand as expand_module
from tpu_dynamo.ahead_of_time import coverage
from tpu_dynamo_lowering.errors import tensors_of

from . import entries
from .coverage import outcome

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
DTYPES = ("float32", "int64", "bfloat16", "bool", "complex64", "float64", "float16", "int32", "uint8")
_SAMPLES = 2
_ENTRIES_SHOWN = 3

HEAD = """\
| operator | lowered by | dtypes tested | OpInfo entries, or files of tests/ | what it gives, or why this way |
| --- | --- | --- | --- | --- |
"""

Calls = set[tuple[str, str]]
# By operator, an ordered set.
Notes = defaultdict[str, dict[str, None]]


@contextmanager
def recorded() -> Iterator[Calls]:
    """The (operator, dtype) of every call that is lowered meanwhile, inside decompositions too."""
    calls: Calls = set()
    choose = expand_module.choose

    def record(node: Node) -> object:
        values = [value for given in node.all_input_nodes for value in tensors_of(given)] or tensors_of(node)
        calls.update((str(node.target), str(value.dtype).removeprefix("torch.")) for value in values[:1])
        return choose(node)

    with mock.patch.object(expand_module, "choose", record):
        yield calls


def main() -> None:
    """Run, note and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="run nothing")
    if parser.parse_args().tables:
        dtypes, by = noted()
    else:
        dtypes, by = run()
    before, head, _ = PAGE.read_text(encoding="utf-8").partition(HEAD)
    PAGE.write_text(before + head + "".join(rows(dtypes, by)), encoding="utf-8")


def cells() -> Iterator[list[str]]:
    """The page's table as it stands, a list for each line."""
    for line in PAGE.read_text(encoding="utf-8").partition(HEAD)[2].splitlines():
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def noted() -> tuple[Notes, Notes]:
    """The dtypes and the tests that the page names for each operator."""
    dtypes, by = Notes(dict), Notes(dict)
    for operator, _, seen, tested, _ in cells():
        dtypes[operator.strip("`")] = dict.fromkeys(seen.split(", "))
        by[operator.strip("`")] = dict.fromkeys(tested.split(", "))
    return dtypes, by


def run() -> tuple[Notes, Notes]:
    """The dtypes and the entries of OpInfo that each operator was lowered for, where the result agreed with eager."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    dtypes, by = Notes(dict), Notes(dict)
    for gradients in (False, True):
        for short in DTYPES[:1] if gradients else DTYPES:
            dtype = getattr(torch, short)
            for name, info in entries.entries(dtype, gradients).items():
                for sample in entries.samples(info, dtype, 1 if gradients else _SAMPLES, gradients):
                    with recorded() as calls:
                        passed = outcome(info, sample, gradients) == "passed"
                    for operator, used in calls if passed else ():
                        dtypes[operator][used] = None
                        by[operator][f"{name} (gradient)" if gradients else name] = None
            print(short, "gradients" if gradients else "", len(by), flush=True)
    return dtypes, Notes(dict, {operator: dict.fromkeys(_few(operator, names)) for operator, names in by.items()})


def rows(dtypes: Notes, by: Notes) -> Iterator[str]:
    """The table's lines."""
    for operator, way, reason in coverage.operator_rows():
        tested = ", ".join(by.get(operator, ())) or _own_tests(operator)
        seen = ", ".join(dtype for dtype in DTYPES if dtype in dtypes.get(operator, ()))
        yield f"| `{operator}` | {way} | {seen} | {tested} | {reason.replace('|', chr(92) + '|')} |\n"


def _few(operator: str, names: Iterable[str]) -> list[str]:
    ordered = sorted(names, key=lambda name: (name.split(".")[-1] not in operator, len(name), name))
    more = len(ordered) - _ENTRIES_SHOWN
    return ordered[:_ENTRIES_SHOWN] + ([f"{more} more"] if more > 0 else [])


def _own_tests(operator: str) -> str:
    """Our own test files that name the operator."""
    name = operator.removeprefix("aten.").rpartition(".")[0]
    files = [p for p in sorted(PAGE.parents[1].glob("tests/*/test_*.py")) if name in p.read_text(encoding="utf-8")]
    return ", ".join(f"{p.parent.name}/{p.name}" for p in files)


if __name__ == "__main__":
    main()
