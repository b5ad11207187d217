"""The kernels of collectives for device tensors: those of the device's groups, and of others by way of the hosts."""

from __future__ import annotations

from typing import Any

import torch

from .._torch_compat import pytree
from ..device import NAME as DEVICE
from ._torch_compat import OpOverload, delayed_work, finished_work, has_backend, implement, is_work, wait
from .functional_operators import FUNCTIONAL
from .operators import C10D, Kernel

# Both ends of these may be in flight in one process, which waits for them itself.
_TRANSFERS = ("send", "recv_", "recv_any_source_")
_GROUPS = ("process_group", "group_name")


def register_kernels() -> list[torch.library.Library]:
    """Register the kernels of collectives for the device; return the libraries that hold them."""
    kernels: dict[str, dict[str, Kernel]] = {}
    for namespace, table in {"c10d": C10D, **FUNCTIONAL}.items():
        operators = getattr(torch.ops, namespace)
        kernels[namespace] = {name: _choosing(getattr(operators, name).default, own) for name, own in table.items()}
    return implement(kernels)


def _choosing(operator: OpOverload, own: Kernel) -> Kernel:
    """Return the kernel of an operator: `own` for groups that have a backend for the device, else by the hosts."""
    names = [argument.name for argument in operator._schema.arguments]
    place = next((i for i, name in enumerate(names) if name in _GROUPS), None)
    if place is None:
        return own

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if has_backend(args[place], DEVICE):
            return own(*args, **kwargs)
        return _through_hosts(operator, args, kwargs)

    return kernel


def _through_hosts(operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a collective on copies in the hosts' memory, as gloo does for any accelerator, and copy what it writes."""
    copies: list[tuple[torch.Tensor, torch.Tensor]] = []
    written: list[tuple[torch.Tensor, torch.Tensor]] = []

    def down(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        copies.append((value, value.detach().cpu()))
        return copies[-1][1]

    c10d, name = operator.namespace == "c10d", operator.name().partition("::")[2]
    moved = []
    for argument, value in zip(operator._schema.arguments, args, strict=False):
        first = len(copies)
        moved.append(pytree.tree_map(down, value))
        if c10d and name != "send" and not argument.name.startswith("input"):
            written += copies[first:]
    found = operator(*moved, **pytree.tree_map(down, kwargs))
    works = [value for value in pytree.tree_leaves(found) if is_work(value)]

    def copy_back() -> None:
        for given, copy in written:
            given.detach().copy_(copy)

    if name in _TRANSFERS:
        return delayed_work(works[0], copy_back)
    for work in works:
        wait(work)
    copy_back()

    def up(value: Any) -> Any:
        if is_work(value):
            return finished_work([given for given, _ in written])
        if not isinstance(value, torch.Tensor):
            return value
        for given, copy in copies:
            if copy is value:
                return given.detach().copy_(copy) if not c10d else given
        return torch.ops._c10d_functional.wait_tensor(value).to(DEVICE)

    return pytree.tree_map(up, found)
