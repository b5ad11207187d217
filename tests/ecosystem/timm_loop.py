"""A training loop of timm's parts, on a device: a script whose process imports timm beside a stand-in for torchvision.

    python -m tests.ecosystem.timm_loop

timm imports torchvision, of which there may be no build beside the torch that is installed; the loop uses none of it.
Prints, as JSON, losses and the final averaged weights' sums for "cpu" and "tpu", and what a step costs on the latter.
"""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import importlib.util
import json
import sys
import types
from typing import Any

import torch

import tpu_dynamo

NAMES = (
    "torchvision", "torchvision.datasets", "torchvision.models", "torchvision.models.feature_extraction",
    "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms", "torchvision.transforms.functional",
)  # fmt: skip


class StandIn(types.ModuleType):
    """A module in which every public name is an empty class."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (torch.nn.Module,), {})
        setattr(self, name, made)
        return made


def stand_in() -> None:
    """Put modules in torchvision's place, unless it is installed."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    for name in NAMES:
        sys.modules[name] = StandIn(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    modes = {"NEAREST": 0, "BILINEAR": 2, "BICUBIC": 3, "BOX": 4, "HAMMING": 5, "LANCZOS": 1}
    import enum

    sys.modules["torchvision.transforms.functional"].InterpolationMode = enum.Enum("InterpolationMode", modes)


def trained(device: str, steps: int = 4) -> dict[str, Any]:
    """Train a small model as timm's train.py does; return its losses and what is left of them in the average."""
    import timm
    from timm.data.mixup import Mixup
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3, NativeScaler, accuracy

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        timm.layers.ConvNormAct(3, 8, 3, stride=2), timm.layers.ClassifierHead(8, 5, drop_rate=0.0)
    )
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    average = ModelEmaV3(model, decay=0.9)
    scaler = NativeScaler(device=device)
    schedule, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=4, warmup_epochs=1)
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=0.0, prob=1.0, num_classes=5, label_smoothing=0.1)
    criterion = SoftTargetCrossEntropy()
    called = torch.compile(model, backend="tpu") if device == "tpu" else model
    import numpy

    numpy.random.seed(0)
    losses, counts = [], []
    for step in range(steps):
        images = torch.linspace(step, 9 + step, 4 * 3 * 8 * 8).sin().view(4, 3, 8, 8)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        images, targets = mixup(images, (torch.arange(4) % 5).to(device))
        loss = criterion(called(images), targets)
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
        optimizer.zero_grad()
        average.update(model, step=step)
        schedule.step_update(step)
        losses.append(loss.item())
        stats = tpu_dynamo.stats()
        counts.append((stats.lowerings, stats.bytes_to_device, stats.bytes_to_host))
    schedule.step(1)
    with torch.no_grad():
        scores = average.module.eval()(images)
        accuracy(scores, torch.arange(4, device=device) % 5)
    return {
        "losses": losses,
        "average": [float(p.detach().double().cpu().abs().sum()) for p in average.module.parameters()],
        "scores": scores.cpu().tolist(),
        "programs": counts[-1][0] - counts[-2][0],
        "to_device": counts[-1][1] - counts[-2][1],
        "to_host": counts[-1][2] - counts[-2][2],
    }


def main() -> None:
    """Train on both devices, and print what came of it."""
    stand_in()
    found = {device: trained(device) for device in ("cpu", "tpu")}
    print(json.dumps(found | {"fallbacks": tpu_dynamo.stats().fallbacks}))


if __name__ == "__main__":
    main()
