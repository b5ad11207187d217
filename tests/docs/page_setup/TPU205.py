"""A model to train."""

import torch

model = torch.nn.Linear(4, 2)
