"""A model with a batch, and the same behind a function."""

from pathlib import Path

import torch

model, batch = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()), torch.randn(4, 8)
Path("models.py").write_text("""\
import torch


def make_bert():
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()), (torch.randn(4, 8),)
""")
