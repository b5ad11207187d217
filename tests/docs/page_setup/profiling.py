"""Training of a compiled model, and a script that trains."""

from pathlib import Path

import torch

import tpu_dynamo

model = torch.compile(torch.nn.Linear(8, 8), backend="tpu")
batches = [torch.randn(4, 8) for _ in range(3)]


def train(batch):
    model(batch).sum().backward()


def step():
    train(batches[0])


train(batches[0])
assert tpu_dynamo.profile

Path("train.py").write_text("""\
import torch

model = torch.compile(torch.nn.Linear(8, 8), backend="tpu")
for _ in range(8):
    model(torch.randn(4, 8)).sum().backward()
""")
