"""A module as `self`, and a model that takes a temperature."""

import torch

self = torch.nn.Module()
x = torch.ones(2)


@torch.compile(backend="tpu")
def model(x, temperature):
    return x * temperature
