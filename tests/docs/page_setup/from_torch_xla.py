"""A model and its loop's data."""

import torch

model, loss_fn = torch.nn.Linear(4, 3), torch.nn.functional.cross_entropy
optimizer = torch.optim.AdamW(model.parameters())
loader = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(2)]
