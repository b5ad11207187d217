"""Attention with a soft cap trained on the device, in whole steps and outside: eager's losses and parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tpu_dynamo


class Capped(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.mix(x).chunk(3, -1))
        scores = 0.7 * torch.tanh(q @ k.mT / 0.7)
        hidden = torch.ones(x.shape[1], x.shape[1], device=x.device).triu(1).bool()
        return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).square().mean()


@pytest.mark.parametrize("whole", [True, False], ids=["step", "model"])
@pytest.mark.parametrize("form", ["plain", "fused"])
def test_training_on_the_device_is_eagers(whole, form):
    torch.manual_seed(0)
    eager, options = Capped(), {"attention": form}
    model, given = copy.deepcopy(eager).to("tpu"), torch.randn(2, 12, 16)
    ours, theirs = (torch.optim.SGD(each.parameters(), lr=0.5) for each in (model, eager))
    step = tpu_dynamo.train_step(model, ours, options=options) if whole else None
    compiled = torch.compile(model, backend="tpu", fullgraph=True, options=options)
    for _ in range(2):
        theirs.zero_grad()
        loss = eager(given)
        loss.backward()
        theirs.step()
        if step is not None:
            found = step(given.to("tpu"))
        else:
            ours.zero_grad()
            found = compiled(given.to("tpu"))
            found.backward()
            ours.step()
        torch.testing.assert_close(torch.as_tensor(found).detach().cpu().reshape(()), loss.detach())
    for name, wanted in eager.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name].cpu(), wanted, rtol=1e-5, atol=1e-5)
