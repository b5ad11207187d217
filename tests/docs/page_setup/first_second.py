"""A compiled model and a batch."""

import torch

model, batch = torch.compile(torch.nn.Linear(8, 8), backend="tpu"), torch.randn(4, 8)
