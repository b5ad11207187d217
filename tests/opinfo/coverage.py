"""The count of OpInfo entries and samples that agree with eager.

    python -m tests.opinfo.coverage --dtypes float32,int64 [--samples 3] [--gradients] [--device] [--match REGEX]

Prints each entry with failures and the counts at the end; `--samples 0` runs all samples. What fails with Dynamo alone
too (backend `aot_eager`) is counted apart: no backend can pass it.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from typing import Any

import torch

import tpu_dynamo

from . import entries


def outcome(info: Any, sample: Any, gradients: bool, backend: str = "tpu") -> str:
    """`passed`, or what kind of failure and its first line."""
    try:
        if backend == "eager on the device":
            with torch.no_grad():
                entries.check_on_device(info, sample)
        elif gradients:
            entries.check_gradients(info, sample, backend)
        else:
            with torch.no_grad():
                entries.check(info, sample, backend)
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
    parser.add_argument("--device", action="store_true", help='eager on torch.device("tpu"), nothing compiled')
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
            failures: list[str] = []
            total = impossible = 0
            tpu_dynamo.reset_stats()
            for sample in entries.samples(info, dtype, given.samples or None, given.gradients):
                found = outcome(info, sample, given.gradients, "eager on the device" if given.device else "tpu")
                total += 1
                if found != "passed":
                    if outcome(info, sample, given.gradients, "aot_eager") == "passed":
                        failures.append(found)
                    else:
                        impossible += 1
            counts["entries with an operator on the CPU"] += bool(tpu_dynamo.stats().fallbacks)
            if failures or impossible:
                first = f": {failures[0]}" if failures else ""
                print(f"{name}-{short}: {len(failures)} fail, {impossible} cannot, of {total}{first}", flush=True)
            counts["entries"] += impossible < total or not total
            counts["entries passed"] += not failures and (impossible < total or not total)
            counts["samples"] += total - impossible
            counts["samples passed"] += total - impossible - len(failures)
        share = counts["samples passed"] / max(counts["samples"], 1)
        print(
            f"{short}: {counts['entries passed']} of {counts['entries']} entries, "
            f"{counts['samples passed']} of {counts['samples']} samples ({share:.2%}); "
            f"{counts['entries with an operator on the CPU']} entries ran an operator on the CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
