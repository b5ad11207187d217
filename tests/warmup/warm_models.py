"""Models that the tests warm, in this process and, copied beside a manifest, in others."""

from __future__ import annotations

import os
import signal
import threading

import torch

import tpu_dynamo


class Mlp(torch.nn.Module):
    def __init__(self, size: int = 16):
        super().__init__()
        self.first = torch.nn.Linear(size, size)
        self.last = torch.nn.Linear(size, 4)

    def forward(self, x):
        return self.last(torch.dropout(torch.relu(self.first(x)), 0.5, self.training))


class Branching(Mlp):
    """Asks for a value, which breaks the graph."""

    def forward(self, x):
        hidden = self.first(x)
        if hidden.sum() > 1e9:
            hidden = hidden * 2
        return self.last(hidden)


class Masked(Mlp):
    """Attention among rows, with a mask that depends on no input."""

    def forward(self, x):
        rows = x[None, None]
        mask = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).tril()
        mixed = torch.nn.functional.scaled_dot_product_attention(rows, rows, rows, mask)
        return super().forward(mixed[0, 0])


class Spectrum(torch.nn.Module):
    """Transforms its rows, of which nothing is proven for padded ones."""

    def forward(self, x):
        return torch.fft.rfft(x, dim=0).abs()


def spectrum():
    return Spectrum()


def masked():
    return Masked()


def mlp(size: int = 16):
    return Mlp(size)


def precise():
    torch.set_float32_matmul_precision("high")
    return Mlp()


def branching():
    return Branching()


def with_inputs():
    return Mlp(), (torch.zeros(3, 16),)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3)


def cross_entropy(output, target):
    return torch.nn.functional.cross_entropy(output, target)


def squares(output):
    return output.square().mean()


def raising():
    raise ValueError("no such checkpoint")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def waiting():
    threading.Event().wait()


@tpu_dynamo.warmup_case(
    modes=["inference", "train"], targets=["cpu"], parameters=[{"n": 2}, {"n": 3}], loss=squares, init="meta"
)
def decorated(n):
    return Mlp(), (), {"x": torch.zeros(n, 16)}


def split(mesh):
    """A model in tensor parallel."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
    return parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
