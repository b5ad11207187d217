"""How many OpInfo entries and samples agree with eager, counted.

    python -m tests.opinfo.coverage --dtypes float32,int64 [--samples 3] [--gradients] [--match REGEX]

Prints each failure as it comes and a table at the end; `--samples 0` runs all of them.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from typing import Any

import torch

from . import entries


def outcome(info: Any, sample: Any, gradients: bool) -> str:
    """`passed`, or what kind of failure and its first line."""
    try:
        if gradients:
            entries.check_gradients(info, sample)
        else:
            with torch.no_grad():
                entries.check(info, sample)
    except AssertionError as error:
        return f"values differ: {' '.join(str(error).split())[:140]}"
    except Exception as error:  # noqa: BLE001, since every kind of failure is counted
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
        return f"{type(error).__name__}: {' '.join(lines[:2])[:160]}"
    return "passed"


def main() -> None:
    """Run and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--gradients", action="store_true")
    parser.add_argument("--match", default=".*")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for short in given.dtypes.split(","):
        dtype = getattr(torch, short)
        counts: Counter[str] = Counter()
        for name, info in entries.entries(dtype, given.gradients).items():
            if not re.fullmatch(given.match, name):
                continue
            failed = 0
            for sample in entries.samples(info, dtype, given.samples or None, given.gradients):
                found = outcome(info, sample, given.gradients)
                counts["samples"] += 1
                counts["samples passed"] += found == "passed"
                if found != "passed":
                    failed += 1
                    if failed == 1:
                        print(f"{name}-{short}: {found}", flush=True)
            counts["entries"] += 1
            counts["entries passed"] += not failed
        print(
            f"{short}: {counts['entries passed']} of {counts['entries']} entries, "
            f"{counts['samples passed']} of {counts['samples']} samples "
            f"({counts['samples passed'] / max(counts['samples'], 1):.2%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
