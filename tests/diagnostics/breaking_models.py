"""Small models made to break, each with the fix that the report advises."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

log = logging.getLogger("breaking_models")

SCALE = 2.0


class Block(nn.Module):
    """A small transformer block; subclasses add what breaks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def attend(self, x: Tensor) -> Tensor:
        """Causal self-attention with two heads."""
        query, key, value = self.project(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2))


class Branch(Block):
    def forward(self, x):
        h = self.attend(x)
        if h.norm() > 10:
            h = h / h.norm()
        return h + x


class BranchFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        h = torch.where(h.norm() > 10, h / h.norm(), h)
        return h + x


class Item(Block):
    def forward(self, x):
        h = self.attend(x)
        largest = h.abs().max().item()
        return h / largest


class ItemFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        largest = h.abs().max()
        return h / largest


class Print(Block):
    def forward(self, x):
        h = self.attend(x)
        print("hidden", h.shape)
        return h * 2


class PrintFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        if not torch.compiler.is_compiling():
            print("hidden", h.shape)
        return h * 2


class Logging(Block):
    def forward(self, x):
        h = self.attend(x)
        log.info("hidden %s", h.shape)
        return h * 2


class LoggingFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        if not torch.compiler.is_compiling():
            log.info("hidden %s", h.shape)
        return h * 2


class Builtin(Block):
    def forward(self, x):
        h = self.attend(x)
        return h * globals()["SCALE"]


class BuiltinFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        return h * SCALE


class Generator(Block):
    def parts(self, h):
        for part in h.unbind(1):
            yield part * part.sum().item()

    def forward(self, x):
        return sum(self.parts(self.attend(x)))


class GeneratorFixed(Generator):
    def parts(self, h):
        for part in h.unbind(1):
            yield part * part.sum()


class CFunction(Block):
    def forward(self, x):
        h = self.attend(x)
        return h * (zlib.crc32(b"layer") % 5)


class CFunctionFixed(Block):
    factor = zlib.crc32(b"layer") % 5

    def forward(self, x):
        h = self.attend(x)
        return h * self.factor


class Numpy(Block):
    def forward(self, x):
        h = self.attend(x).detach()
        return torch.from_numpy(np.interp(h.numpy(), [0.0, 1.0], [1.0, 2.0]))


class NumpyFixed(Block):
    def forward(self, x):
        h = self.attend(x).detach()
        return 1.0 + h.clamp(0.0, 1.0)


class GradMode(Block):
    def forward(self, x):
        h = self.attend(x)
        with torch.set_grad_enabled(bool(h.sum() > 0)):
            return h * 2


class GradModeFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        return torch.where(h.sum() > 0, h * 2, (h * 2).detach())


class TryExcept(Block):
    def forward(self, x):
        h = self.attend(x)
        try:
            h = h * h.sum().item()
        except ValueError:
            h = h * 0
        return h + 1


class TryExceptFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        try:
            h = h * h.sum()
        except ValueError:
            h = h * 0
        return h + 1


class DictMutation(Block):
    def forward(self, x):
        h = self.attend(x)
        os.environ["LAST_LENGTH"] = "5"
        return h + 1


class DictMutationFixed(Block):
    def forward(self, x):
        h = self.attend(x)
        return h + 1


def scaled(h: Tensor) -> Tensor:
    """Inlined by both callers; the break is in here."""
    return h * h.mean().item()


class Inlined(Block):
    def forward(self, x):
        h = scaled(self.attend(x))
        return scaled(h + 1)


def scaled_fixed(h: Tensor) -> Tensor:
    return h * h.mean()


class InlinedFixed(Block):
    def forward(self, x):
        h = scaled_fixed(self.attend(x))
        return scaled_fixed(h + 1)


@dataclass(frozen=True)
class Case:
    """A model, where it breaks (`text` within `function`), the code, the kind and the outcome, and the fixed model.

    follows: the codes of the breaks that this one leads to.
    """

    model: type[Block]
    fixed: type[Block]
    function: Callable[..., object]
    text: str
    code: str
    kind: str = "user"
    outcome: str = "resumed"
    follows: tuple[str, ...] = ()


# torch 2.13 traces plain generators, torch.set_grad_enabled, try/except and mutations of plain dicts without a break;
# these models hold what does break there: a value read inside of a generator, of the argument of set_grad_enabled and
# of a try, and a mapping whose mutation calls C code.
CASES = {
    "branch": Case(Branch, BranchFixed, Branch.forward, "h.norm() > 10", "GB0170", "fundamental"),
    "item": Case(Item, ItemFixed, Item.forward, "h.abs().max().item()", "GB0124"),
    "print": Case(Print, PrintFixed, Print.forward, 'print("hidden", h.shape)', "GB0059"),
    "logging": Case(Logging, LoggingFixed, Logging.forward, 'log.info("hidden %s", h.shape)', "GB0291"),
    "builtin": Case(Builtin, BuiltinFixed, Builtin.forward, "globals()", "GB0059"),
    "generator": Case(
        Generator, GeneratorFixed, Generator.parts, "part.sum().item()", "GB0124", follows=("GB8335",)
    ),
    "c-function": Case(CFunction, CFunctionFixed, CFunction.forward, 'zlib.crc32(b"layer")', "GB0007"),
    "numpy": Case(
        Numpy, NumpyFixed, Numpy.forward, "np.interp(h.numpy(), [0.0, 1.0], [1.0, 2.0])", "GB0294", "supportable"
    ),
    "grad-mode": Case(GradMode, GradModeFixed, GradMode.forward, "bool(h.sum() > 0)", "GB0124"),
    "try-except": Case(
        TryExcept, TryExceptFixed, TryExcept.forward, "h.sum().item()", "GB0124", outcome="partial"
    ),
    "dict-mutation": Case(
        DictMutation, DictMutationFixed, DictMutation.forward, 'os.environ["LAST_LENGTH"]', "GB0007"
    ),
    "inlined": Case(Inlined, InlinedFixed, scaled, "h.mean().item()", "GB0124"),
}  # fmt: skip
