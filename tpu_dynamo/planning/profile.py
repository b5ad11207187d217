"""The facts of a model that every layout's cost follows from, of one run on tensors without values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .._torch_compat import fake_copies, pytree
from ..ahead_of_time.capture import default_loss
from ..device import NAME as DEVICE
from ..device import register


@dataclass(frozen=True)
class Profile:
    """A model on one chip, at the batch of its example.

    rows: the first dimension of its inputs. blocks: the names of the modules of which it has many equal ones, in their
    order. parameters: bytes by name. flops: of forward and backward. saved: bytes that the backward needs, by block,
    and under the empty name outside of them. entering: bytes that enter each block. outputs: bytes of what each module
    returns, by name.
    """

    rows: int
    blocks: tuple[str, ...]
    parameters: Mapping[str, int]
    flops: int
    saved: Mapping[str, int]
    entering: Mapping[str, int]
    outputs: Mapping[str, int] = field(repr=False)

    def block_of(self, name: str) -> str:
        """Return the block that a module or parameter is in; the empty name for what is in none."""
        return next((block for block in self.blocks if name == block or name.startswith(block + ".")), "")


def blocks_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's blocks: the members of its list of equal modules with the most parameters.

    Without a list of two or more of one class, none.
    """
    best: tuple[int, tuple[str, ...]] = (0, ())
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        if len({type(member) for member in module}) > 1:
            continue
        size = sum(p.numel() for p in module.parameters())
        names = tuple(f"{name}.{i}" if name else str(i) for i in range(len(module)))
        best = max(best, (size, names), key=lambda each: each[0])
    return best[1]


def profile(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    loss: Callable[[Any], Tensor] | None = None,
    *,
    training: bool = True,
) -> Profile:
    """Run a model once on tensors without values, in eager PyTorch, and take down what it does.

    Of an inference, `saved` is what the largest module returns.
    """
    register()
    blocks = blocks_of(model)
    named = dict(model.named_modules())
    kept: dict[str, int] = dict.fromkeys((*blocks, ""), 0)
    entering: dict[str, int] = dict.fromkeys(blocks, 0)
    outputs: dict[str, int] = {}
    counter = FlopCounterMode(display=False)
    with fake_copies(model, (tuple(args), dict(kwargs)), DEVICE) as (given, by_name):
        static = {id(p) for p in (*model.parameters(), *model.buffers())}
        with contextlib.ExitStack() as stack:
            inside: list[str] = []
            for block in blocks:
                _track(stack, named[block], block, inside, entering)
            for name, module in named.items():
                handle = module.register_forward_hook(
                    lambda _, __, out, name=name: outputs.update({name: _nbytes(out)})
                )
                stack.callback(handle.remove)
            if training:
                stack.enter_context(_saved_tensors(kept, inside, static))
            stack.enter_context(counter)
            stack.enter_context(torch.set_grad_enabled(training))
            found = model(*given, **by_name)
            if training:
                (loss or default_loss)(found).backward()
        rows = max(
            (t.shape[0] for t in pytree.tree_leaves((given, by_name)) if isinstance(t, Tensor) and t.ndim), default=1
        )
    if not training:
        kept[""] = max(outputs.values(), default=0)
    parameters = {name: p.numel() * p.element_size() for name, p in model.named_parameters()}
    return Profile(rows, blocks, parameters, counter.get_total_flops(), kept, entering, outputs)


def _track(
    stack: contextlib.ExitStack, module: nn.Module, name: str, inside: list[str], entering: dict[str, int]
) -> None:
    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        inside.append(name)
        first = next((leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None)
        entering[name] = _nbytes(first)

    def leave(*_: Any) -> None:
        inside.pop()

    stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
    stack.callback(module.register_forward_hook(leave).remove)


@contextlib.contextmanager
def _saved_tensors(kept: dict[str, int], inside: list[str], static: set[int]) -> Iterator[None]:
    """Add the bytes of each tensor that autograd saves to the block that runs; of one memory once, parameters never."""
    seen: set[Any] = set()
    # Held, so that no two tensors have one id.
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        base = tensor._base if tensor._base is not None else tensor
        key = id(base)
        if key not in seen and id(tensor) not in static and key not in static:
            seen.add(key)
            held.append(base)
            kept[inside[-1] if inside else ""] += _nbytes(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def _nbytes(value: Any) -> int:
    return sum(t.numel() * t.element_size() for t in pytree.tree_leaves(value) if isinstance(t, Tensor))
