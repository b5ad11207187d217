"""The factories that `warmup.toml` names: the models of the other examples, without their weights and data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from train_gpt import GPT, Text


def gpt(dropout: float = 0.0) -> GPT:
    """The model of train_gpt.py."""
    return GPT(len(Text().characters), dropout=dropout)


def adamw(parameters: Iterator[torch.nn.Parameter]) -> torch.optim.AdamW:
    """The optimizer of train_gpt.py; its learning rate is an operand of the program, so any will do."""
    return torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1, eps=1e-5)
