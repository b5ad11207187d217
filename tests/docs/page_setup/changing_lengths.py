"""A model of tokens, and requests of several lengths."""

import torch

model = torch.nn.Sequential(torch.nn.Embedding(16, 4), torch.nn.Linear(4, 16))
requests = [[3, 1, 4, 1, 5], [9, 2, 6]]


def tokenize(requests):
    return torch.tensor([(request * 20)[:40] for request in requests])
