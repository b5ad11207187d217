"""Running sums of exponentials as a TPU computes them, against eager."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering.kernels import scans

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_blocks_give_the_running_log_of_sums(matches_eager_as_for_a_tpu, monkeypatch, dtype, dim):
    monkeypatch.setattr(scans, "_BLOCK", 3)
    x = torch.linspace(-90, 90, 3 * 29).reshape(3, 29).to(dtype)
    matches_eager_as_for_a_tpu(lambda x: torch.logcumsumexp(x, dim), x if dim else x.T.contiguous())


def test_infinities_and_nan_spread_as_in_eager(matches_eager_as_for_a_tpu, monkeypatch):
    monkeypatch.setattr(scans, "_BLOCK", 2)
    x = torch.tensor([[-INF, -INF, 1.0, 2.0, INF, INF, -1.0], [-INF, 0.0, NAN, 1.0, 2.0, INF, -INF]])
    matches_eager_as_for_a_tpu(lambda x: torch.logcumsumexp(x, 1), x)
