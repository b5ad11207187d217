"""Pinned tensors, and checkpoints of torch.distributed.checkpoint on one chip."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions


def test_pinned_tensors_are_known_as_such():
    made = torch.empty((2, 3), pin_memory=True)
    assert made.is_pinned() and made[1].is_pinned() and torch.zeros(2, pin_memory=True).is_pinned()
    assert torch.ones(2).pin_memory().is_pinned()
    assert not torch.ones(2).is_pinned() and not made.clone().is_pinned()
    assert made.resize_(1000).fill_(2).sum() == 2000
    assert torch.ones(2).pin_memory().to("tpu", non_blocking=True).to("cpu", non_blocking=True).tolist() == [1, 1]


def made():
    """Return a module's state, parameters as they are, and views of one tensor."""
    layer = nn.Linear(3, 2).to("tpu")
    rows = torch.arange(6.0, device="tpu").view(2, 3)
    views = {"transposed": rows.t(), "row": rows[1], "half": rows.bfloat16(), "both": rows}
    return {"layer": layer.state_dict(), "parameters": dict(layer.named_parameters()), "views": views}


def staged():
    return DefaultStager(StagingOptions(False, True, True, False))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("how", ["at once", "beside", "staged in shared memory"])
def test_what_is_saved_is_loaded(tmp_path, how):
    """Into tensors of the CPU and of the device."""
    state = {f"{name}.{key}": value for name, part in made().items() for key, value in part.items()}
    if how == "at once":
        dcp.save(state, checkpoint_id=tmp_path)
        expected = {key: value.detach().cpu() for key, value in state.items()}
    else:
        expected = {key: value.detach().cpu() for key, value in state.items()}
        pending = dcp.async_save(state, checkpoint_id=tmp_path, async_stager=staged() if "staged" in how else None)
        getattr(pending, "upload_completion", pending).result()
    for device in ("cpu", "tpu"):
        found = {key: torch.zeros_like(value, device=device) for key, value in expected.items()}
        dcp.load(found, checkpoint_id=tmp_path)
        for key, value in expected.items():
            assert torch.equal(found[key].cpu(), value), key
