"""A loader whose last batch is smaller."""

import torch

loader = [torch.ones(4, 2), torch.ones(4, 2), torch.ones(2, 2)]
model = torch.compile(torch.nn.Linear(2, 2), backend="tpu")
