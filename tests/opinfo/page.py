"""The table of docs/ops.md: each operator, how it is lowered, and with which dtypes and tests it agreed with eager.

    python -m tests.opinfo.page [--tables]

Runs the first samples of every OpInfo entry, and the gradients of the first, and notes the operators that the passing
ones consist of. Takes about half an hour; with --tables it keeps what the page says of OpInfo, and is done at once.
Operators that no entry consists of name the files of tests/ that lower them, by the record of tests/record_operators.py.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.fx import Node

from tests import record_operators
from tpu_dynamo.ahead_of_time import coverage
from tpu_dynamo_lowering.errors import tensors_of
from tpu_dynamo_lowering.expand import watching

from . import entries
from .coverage import outcome

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
DTYPES = ("float32", "int64", "bfloat16", "bool", "complex64", "float64", "float16", "int32", "uint8")
_SAMPLES = 2
_SHOWN = 3

HEAD = """\
| operator | lowered by | dtypes tested | OpInfo entries, or files of tests/ | what it gives, or why this way |
| --- | --- | --- | --- | --- |
"""

_OWN_TEST = re.compile(r"/test_\w+\.py")

Calls = set[tuple[str, str]]
# By operator, an ordered set.
Notes = defaultdict[str, dict[str, None]]


@contextmanager
def recorded() -> Iterator[Calls]:
    """Collect the (operator, dtype) of every call that is lowered meanwhile, inside decompositions too."""
    calls: Calls = set()

    def record(node: Node, chosen: object) -> None:
        values = [value for given in node.all_input_nodes for value in tensors_of(given)] or tensors_of(node)
        name = record_operators.operator_name(node, chosen)
        calls.update((name, str(value.dtype).removeprefix("torch.")) for value in values[:1])

    with watching(record):
        yield calls


def main() -> None:
    """Run the entries, or read the page, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="run nothing")
    if parser.parse_args().tables:
        dtypes, by = noted()
    else:
        dtypes, by = run()
    before, head, _ = PAGE.read_text(encoding="utf-8").partition(HEAD)
    PAGE.write_text(before + head + "".join(rows(dtypes, by)), encoding="utf-8")


def written() -> str:
    """Read the page's table, below its head."""
    return PAGE.read_text(encoding="utf-8").partition(HEAD)[2]


def noted() -> tuple[Notes, Notes]:
    """Read from the page the dtypes and the entries of OpInfo that it names for each operator."""
    dtypes, by = Notes(dict), Notes(dict)
    for line in written().splitlines():
        operator, _, seen, tested, _ = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if tested and not _OWN_TEST.search(tested):
            dtypes[operator.strip("`")] = dict.fromkeys(seen.split(", "))
            by[operator.strip("`")] = dict.fromkeys(tested.split(", "))
    return dtypes, by


def run() -> tuple[Notes, Notes]:
    """Find the dtypes and the entries of OpInfo that each operator was lowered for, where results agreed with eager."""
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
    """Write the table's lines."""
    own = own_tests()
    for operator, way, reason in coverage.operator_rows():
        tested = ", ".join(by.get(operator) or own.get(operator, ()))
        seen = ", ".join(dtype for dtype in DTYPES if dtype in dtypes.get(operator, ()))
        yield f"| `{operator}` | {way} | {seen} | {tested} | {reason.replace('|', chr(92) + '|')} |\n"


def _few(operator: str, names: Iterable[str]) -> list[str]:
    return _first(sorted(names, key=lambda name: (name.split(".")[-1] not in operator, len(name), name)))


def _first(ordered: list[str]) -> list[str]:
    """Return the first few names, and how many more there are."""
    more = len(ordered) - _SHOWN
    return ordered[:_SHOWN] + ([f"{more} more"] if more > 0 else [])


def own_tests() -> dict[str, list[str]]:
    """Return the files of tests/ that lower each operator, those that lower fewest others first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file, operators in sorted(record_operators.recorded().items(), key=lambda item: (len(item[1]), item[0])):
        for operator in operators:
            found[operator].append(file)
    return {operator: _first(files) for operator, files in found.items()}


if __name__ == "__main__":
    main()
