"""A model to compile."""

import torch

model = torch.nn.Linear(4, 2)
