"""Transfers: every number format survives the way to NumPy and back."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_runtime.transfer import as_numpy, as_torch

FORMATS = [
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
]  # fmt: skip


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_numbers_survive_numpy(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(torch.float32).to(dtype)
    back = as_torch(as_numpy(tensor), dtype)
    assert back.dtype == dtype
    assert torch.equal(back.to(torch.complex128), tensor.to(torch.complex128))
