"""A model and a batch."""

import torch

model, batch = torch.nn.Linear(4, 3).eval(), torch.randn(2, 4)
