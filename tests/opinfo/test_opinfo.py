"""Every OpInfo entry through torch.compile(backend="tpu", fullgraph=True), against eager.

CI runs the first sample of every tenth entry in float32 and int64. The long suite runs the others, all samples in more
dtypes, and the gradients: `python -m pytest -n 2 -m slow tests/opinfo`, divided among machines by OPINFO_SHARD=i/n.
"""

from __future__ import annotations

import pytest
import torch

from . import entries
from .expected_failures import FORWARD, GRADIENTS

DTYPES = [torch.float32, torch.int64, torch.bfloat16, torch.bool, torch.complex64, torch.float64]


def cases(dtype: torch.dtype, failures: dict[str, dict[str, str]], gradients: bool = False, first: bool = True):
    """The entries of a dtype; those that must fail are marked with the reason."""
    short = str(dtype).removeprefix("torch.")
    reasons = failures.get("any", {}) | failures.get(short, {})
    later = {} if first else failures.get(f"{short} beyond the first sample", {})
    for name, info in entries.entries(dtype, gradients).items():
        reason = reasons.get(name) or later.get(name)
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        yield pytest.param(info, dtype, id=f"{name}-{short}", marks=marks)


@pytest.mark.sampled(10)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("info", "dtype"), [c for dtype in DTYPES[:2] for c in cases(dtype, FORWARD)])
def test_first_sample(info, dtype):
    with torch.no_grad():
        for sample in entries.samples(info, dtype, 1):
            entries.check(info, sample)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("info", "dtype"), [c for dtype in DTYPES for c in cases(dtype, FORWARD, first=False)])
def test_all_samples(info, dtype):
    with torch.no_grad():
        for sample in entries.samples(info, dtype, None):
            entries.check(info, sample)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("info", "dtype"), list(cases(torch.float32, GRADIENTS, gradients=True)))
def test_gradients_of_the_first_samples(info, dtype):
    for sample in entries.samples(info, dtype, 3, gradients=True):
        entries.check_gradients(info, sample)
