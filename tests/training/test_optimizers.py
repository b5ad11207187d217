"""PyTorch's dense optimizers in whole steps: for each of its own test inputs, the parameters that eager gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing._internal.common_optimizers import optim_db

from tpu_dynamo import train_step

pytestmark = pytest.mark.sampled(10)

# Optimizers that train_step refuses, each with a reason in its message.
REFUSED = {"LBFGS", "SparseAdam"}
# The CPU's reference refuses these, which say where counts live and which kernels run; neither changes a value.
FORMS = ("capturable", "foreach", "fused")


def inputs():
    for info in optim_db:
        name = info.optim_cls.__name__
        if name in REFUSED:
            continue
        seen = set()
        for given in info.optim_inputs_func(device="cpu"):
            kwargs = {k: v for k, v in given.kwargs.items() if k not in FORMS}
            if kwargs.get("differentiable") or repr(kwargs) in seen:
                continue
            seen.add(repr(kwargs))
            yield pytest.param(info.optim_cls, kwargs, id=f"{name}-{given.desc.replace(' ', '-')}")


def test_every_dense_optimizer_of_pytorchs_is_here():
    classes = {info.optim_cls.__name__ for info in optim_db}
    assert {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Adamax", "ASGD", "Rprop",
            "Adafactor", "Muon"} <= classes  # fmt: skip


@pytest.mark.parametrize(("optimizer", "kwargs"), list(inputs()))
def test_five_steps_are_eagers(optimizer, kwargs):
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Linear(4, 5, bias=optimizer is not torch.optim.Muon), nn.Tanh())
    reference.append(nn.Linear(5, 3, bias=optimizer is not torch.optim.Muon))
    model = copy.deepcopy(reference).to("tpu")

    def made(module):
        own = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
        return optimizer(module.parameters(), **own)

    theirs, ours = made(reference), made(model)
    step = train_step(model, ours, nn.functional.mse_loss)
    for i in range(5):
        generator = torch.Generator().manual_seed(i)
        x, y = torch.randn(6, 4, generator=generator), torch.randn(6, 3, generator=generator)
        theirs.zero_grad()
        nn.functional.mse_loss(reference(x), y).backward()
        theirs.step()
        step(x.to("tpu"), y.to("tpu"))
    epsilon = torch.finfo(torch.float32).eps
    absolute = 100 * epsilon
    if optimizer is torch.optim.Muon:
        # Its updates, of size lr, come out of ns_steps iterations that each round to bfloat16.
        absolute = 5 * kwargs.get("lr", 1e-3) * kwargs.get("ns_steps", 5) * torch.finfo(torch.bfloat16).eps
    actual = {name: value.cpu() for name, value in model.state_dict().items()}
    torch.testing.assert_close(actual, reference.state_dict(), rtol=epsilon**0.5, atol=absolute)
