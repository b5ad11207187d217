"""The door to PyTorch's private APIs for operators that write: calls on copies, and operators that come apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._higher_order_ops.auto_functionalize import (
    AsStridedViewInfo,
    auto_functionalized,
    auto_functionalized_v2,
    get_mutable_args_from_schema,
    read_view_information_from_args,
)
from torch._library.simple_registry import singleton
from torch._ops import OpOverload
from torch._subclasses.functional_tensor import FunctionalTensorMode

ON_COPIES = (auto_functionalized, auto_functionalized_v2)

__all__ = ["ON_COPIES", "copied_arguments", "is_out", "kept_whole"]


def is_out(operator: OpOverload) -> bool:
    """Say whether an operator fills buffers that it does not read, so that its calls in graphs do not take them."""
    return torch.Tag.out in operator.tags


def copied_arguments(
    operator: OpOverload, kwargs: dict[str, Any], offsets: Sequence[int]
) -> tuple[dict[str, Any], list[Any]]:
    """Return an operator's arguments by name, with copies of those that it writes to, and what holds the copies.

    kwargs: those of its call on copies. offsets: of the tensors that are copied, in their storages, which views are
    counted from; the tensors given here begin in storages of their own. Raises NotImplementedError for a view of a
    tensor that is not dense.
    """
    named = dict(kwargs)
    names, types = get_mutable_args_from_schema(operator._schema)
    if is_out(operator):
        made = []
        keys = "size", "stride", "dtype", "device"
        for name in names:
            size, stride, dtype, device = (named.pop(f"_{name}_{what}") for what in keys)
            named[name] = torch.empty_strided(size, stride, dtype=dtype, device=device)
            made.append(named[name])
        named.pop("_all_bases", None)
        return named, made
    if "_all_bases" not in named:
        for name in names:
            named[name] = _copied(named[name])
        return named, [named[name] for name in names]
    given = list(named.pop("_all_bases"))
    bases = _copied(given)
    for name, view in read_view_information_from_args(names, types, named, bases).items():
        for each in view if isinstance(view, list) else [view]:
            if isinstance(each, AsStridedViewInfo):
                if bases[each.base_index].stride() != given[each.base_index].stride():
                    raise NotImplementedError("it writes to a view of a tensor with gaps in memory: clone that first")
                each.storage_offset -= offsets[each.base_index]
        named[name] = [_seen(one, bases) for one in view] if isinstance(view, list) else _seen(view, bases)
    return named, bases


def _seen(view: Any, bases: list[Any]) -> Any:
    return None if view is None else view.regenerate_view(bases)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def kept_whole(has_lowering: Callable[[OpOverload], bool]) -> Iterator[None]:
    """Trace `torch.library.triton_op`s that have a lowering as operators, which AOTAutograd would take apart.

    has_lowering: is asked of each such operator that is called.
    """
    rules = {}
    for name, entry in list(singleton._data.items()):
        if (rule := entry.torch_dispatch_rules.find(FunctionalTensorMode)) is not None:
            rules[name] = entry.torch_dispatch_rules._data, rule

    def keep(rule: Callable[..., Any]) -> Callable[..., Any]:
        def call(mode: Any, operator: OpOverload, types: Any, args: Any, kwargs: Any) -> Any:
            if has_lowering(operator):
                return mode.__torch_dispatch__(operator, types, args, kwargs)
            return rule(mode, operator, types, args, kwargs)

        return call

    for held, rule in rules.values():
        held[FunctionalTensorMode] = keep(rule)
    try:
        yield
    finally:
        for held, rule in rules.values():
            held[FunctionalTensorMode] = rule
