"""The model, loss and batches of the case."""

import torch

my_loss = torch.sum


class MyModel(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)


def make_batch(size):
    return torch.randn(size, 4)
