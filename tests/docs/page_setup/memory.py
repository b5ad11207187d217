"""A model with a batch, training on the device, and a script that trains."""

from pathlib import Path

import torch

model, batch = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8)), torch.randn(4, 8)


def train():
    there = torch.nn.Linear(64, 64, device="tpu")
    there(torch.randn(8, 64, device="tpu")).sum().backward()


Path("train.py").write_text("""\
import sys

import torch

for _ in range(int(sys.argv[2])):
    there = torch.nn.Linear(64, 64, device="tpu")
    there(torch.randn(8, 64, device="tpu")).sum().backward()
""")
