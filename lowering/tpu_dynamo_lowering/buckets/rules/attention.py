"""Attention: keys in the padding are not seen, and their keys and values are zero, since no weight hides a nan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from ..extents import NotProven, is_padded, size_of
from ..values import Builder, Value
from .pointwise import item
from .table import Arguments, broadcast, rule

aten = torch.ops.aten

_KEYS = -2  # the dimension of keys in `key` and `value`, of queries in `query`


def _mask(builder: Builder, arguments: Arguments) -> Value | None:
    """Return the mask with the keys in the padding hidden. Raises NotProven where no mask can say that."""
    query, key, mask = arguments["query"], arguments["key"], arguments.get("attn_mask")
    keys = key.extents[_KEYS]
    if mask is not None:
        broadcast([Value(mask.node, mask.extents[-2:]), Value(query.node, (query.extents[_KEYS], keys))])
    if not is_padded(keys):
        return mask
    if arguments.get("is_causal", False):
        if query.extents[_KEYS] != keys or len(keys) != 1:
            raise NotProven("it is causal, and a true query may see a key that is not true")
        return mask  # a true query sees no key behind its own
    fake = query.fake
    if mask is None:
        row = builder.call(aten.full.default, [1, 1, 1, key.fake.shape[_KEYS]], 0, dtype=fake.dtype, device=fake.device)
        mask = Value(row, ((), (), (), keys))
    if mask.extents[-1] == ():
        shape = [*mask.fake.shape[:-1], key.fake.shape[_KEYS]]
        mask = Value(builder.call(aten.expand.default, mask.node, shape), (*mask.extents[:-1], keys))
    return builder.hidden(mask, [mask.ndim - 1], False if mask.fake.dtype == torch.bool else -math.inf)


def _batch(values: list[Value]) -> None:
    """Check that operands have their true batches in the same places."""
    broadcast([Value(value.node, value.extents[:1]) for value in values])
    if any(map(is_padded, (value.extents[-3] for value in values))):
        raise NotProven("the number of its heads changes")
    if any(is_padded(value.extents[-1]) for value in values):
        raise NotProven("the number of its features changes")


def _lengths(key: Value, value: Value) -> None:
    """Check that keys and values have one length: a fake tensor's rule does not ask for it."""
    if size_of(key.extents[_KEYS]) != size_of(value.extents[_KEYS]):
        raise NotProven("its keys and values have different buckets")


@rule(aten._scaled_dot_product_flash_attention_for_cpu.default, "tpu_dynamo::attention")
def attention(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Compute attention to the true keys."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    _batch([query, key, value])
    _lengths(key, value)
    hidden: dict[str, Any] = {
        name: builder.hidden(each, [each.ndim + _KEYS]) for name, each in (("key", key), ("value", value))
    }
    call = builder.again(node, arguments, attn_mask=_mask(builder, arguments), **hidden)
    out = (*query.extents[:-1], value.extents[-1])
    return [Value(item(builder, call, 0), out), Value(item(builder, call, 1), query.extents[:-1])]


@rule(aten._scaled_dot_product_flash_attention_for_cpu_backward.default, "tpu_dynamo::attention_backward")
def attention_backward(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Give the gradients, to which true queries and keys alone contribute."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    _batch([query, key, value])
    _lengths(key, value)
    hidden: dict[str, Any] = {"attn_mask": _mask(builder, arguments)}
    for name in ("grad_out", "query", "key", "value", "out"):
        hidden[name] = builder.hidden(arguments[name], [arguments[name].ndim + _KEYS])
    statistics = arguments["logsumexp"]
    hidden["logsumexp"] = builder.hidden(statistics, [statistics.ndim - 1])
    call = builder.again(node, arguments, **hidden)
    return [Value(item(builder, call, i), each.extents) for i, each in enumerate((query, key, value))]
