"""A model and its input."""

import torch

model, x = torch.nn.Linear(4, 3).eval(), torch.randn(2, 4)
