"""A model whose package is kept: of a class with a name, in eval mode."""

import torch

model = torch.nn.Linear(4, 2).eval()
