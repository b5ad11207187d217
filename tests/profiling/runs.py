"""Small models of which profiles are taken."""

from __future__ import annotations

import torch

import tpu_dynamo
from tpu_dynamo.profiling.model import Profile


class Block(torch.nn.Module):
    """Two layers around a residual."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        hidden = torch.relu(self.up(x))
        return x + self.down(hidden).softmax(-1)


def blocks() -> torch.nn.Module:
    """Two blocks."""
    return torch.nn.Sequential(Block(), Block())


def line_of(text: str, file: str = __file__) -> int:
    """Return the number of the line that has this text."""
    with open(file, encoding="utf-8") as lines:
        return next(number for number, line in enumerate(lines, 1) if text in line and "line_of" not in line)


def train(device: str, steps: int = 4) -> tpu_dynamo.ProfiledRun:
    """Profile the ordinary loop after two steps."""
    model = blocks().to(device)
    x = torch.randn(128, 64, device=device)
    compiled = torch.compile(model, backend="tpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        compiled(x).square().sum().backward()
        optimizer.step()

    step(), step()
    with tpu_dynamo.profile() as run:
        for _ in range(steps):
            step()
    return run


def assert_adds_up(profile: Profile) -> None:
    """Fail if the host's parts, the steps, the graphs and the lines are not the whole, to 2%."""
    sums = {
        "parts": (sum(profile.parts.values()), profile.seconds),
        "lines": (sum(line.seconds for line in profile.lines), profile.whole),
        "lines of the device": (
            sum(line.parts.get("execution", 0.0) for line in profile.lines),
            profile.device_seconds,
        ),
        "graphs": (sum(graph.parts["execution"] for graph in profile.graphs), profile.device_seconds),
        **{f"step {step.number}": (sum(step.parts.values()), step.seconds) for step in profile.steps},
    }
    wrong = {name: pair for name, pair in sums.items() if abs(pair[0] - pair[1]) > 0.02 * pair[1] + 1e-9}
    assert not wrong
