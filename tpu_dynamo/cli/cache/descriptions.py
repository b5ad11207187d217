"""An entry's metadata in words: what it is, and with what it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tpu_dynamo.cache.entries import EXECUTABLE, PROGRAM, Described, sizes
from tpu_dynamo.formatting import format_count, format_duration

# Of long values, as the CPU's features and JAX's settings, no more than this is shown.
_SHOWN = 100

_OF_MODULE = re.compile(r"\._(?:modules|parameters|buffers)\['([^']*)'\]")
_LOCAL = re.compile(r"^L\['(\w+)'\]")


def sentence(item: Described) -> str:
    """Describe an entry in one sentence."""
    key, graph = item.entry.key[:12], f" of `{item.graph}`" if item.graph else ""
    platform = f" for {item.platform}" if item.platform else ""
    if item.entry.kind == PROGRAM:
        inputs = format_count(len(input_rows(item.metadata)), "input")
        return f"{key} is the program{graph}{platform}, with {inputs}."
    if item.entry.kind == EXECUTABLE:
        return f"{key} is the executable{graph}{platform}, of program {(item.program or 'unknown')[:12]}."
    return f"{key} is an entry of kind {item.entry.kind}{graph}{platform}."


def parts_of(item: Described) -> list[tuple[str, str]]:
    """Return the parts of an entry's metadata by name, in words."""
    found = [("kind", item.entry.kind)]
    if item.graph:
        found.append(("graph", item.graph))
    if item.program:
        found.append(("digest", item.program))
    metadata = item.metadata
    if isinstance(key_parts := metadata.get("key_parts"), Mapping):
        found += [(name, _value(value)) for name, value in key_parts.items() if name not in ("graph", "lowering")]
        if isinstance(key_parts.get("lowering"), Mapping):
            found.append(("lowering", ", ".join(f"{k} {str(v)[:12]}" for k, v in key_parts["lowering"].items())))
    if isinstance(explanation := metadata.get("explanation"), Mapping):
        found += [(name, _value(explanation[name])) for name in ("guards", "shape guards") if explanation.get(name)]
    if isinstance(environment := metadata.get("environment"), Mapping):
        found += [(name, _value(value)) for name, value in environment.items()]
    if isinstance(seconds := metadata.get("compile_seconds"), int | float):
        found.append(("compiled in", format_duration(seconds)))
    return found


def input_rows(metadata: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Name, dtype, size, stride and device of each of a program's inputs, a module's own after the others."""
    explanation = metadata.get("explanation")
    inputs = explanation.get("inputs") if isinstance(explanation, Mapping) else None
    if not isinstance(inputs, Mapping):
        return []
    tensors = [(str(name), tensor) for name, tensor in inputs.items() if isinstance(tensor, Mapping)]
    tensors.sort(key=lambda each: _OF_MODULE.search(each[0]) is not None)
    return [
        (_readable(name), str(t.get("dtype")), sizes(t.get("size")), sizes(t.get("stride")), str(t.get("device")))
        for name, t in tensors
    ]


def _readable(name: str) -> str:
    """Write a name as code has it: `self.layer.weight` for `L['self']._modules['layer']._parameters['weight']`."""
    return _LOCAL.sub(r"\1", _OF_MODULE.sub(r".\1", name))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return _items([str(item) for item in value])
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= _SHOWN else "…"


def _items(items: list[str]) -> str:
    """Join as many items as there is room for; if some are left out, say how many there are."""
    between = ", " if any(" " in item for item in items) else " "
    shown = list(items)
    while len(between.join(shown)) > _SHOWN and len(shown) > 1:
        shown.pop()
    return between.join(shown) + (f" … ({len(items)} in all)" if len(shown) < len(items) else "") or "none"
