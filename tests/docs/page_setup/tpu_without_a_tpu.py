"""A model on the meta device."""

import torch

with torch.device("meta"):
    model, args = torch.nn.Linear(128, 128).to(torch.bfloat16), (torch.empty(8, 128, dtype=torch.bfloat16),)
