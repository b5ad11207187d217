"""A model with a graph break."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x / x.max().item()


model, batch = torch.compile(Model(), backend="tpu"), torch.ones(3)
