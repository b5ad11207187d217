"""An entry's metadata in words: what it is, and with what it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu_dynamo.amounts import counted
from tpu_dynamo.cache.entries import EXECUTABLE, PROGRAM, Described, sizes

# Of long values, as the CPU's features and JAX's settings, no more than this is shown.
_SHOWN = 100


def sentence(item: Described) -> str:
    """One sentence on what an entry is."""
    key, graph = item.entry.key[:12], f" of {item.graph}" if item.graph else ""
    platform = f", for {item.platform}" if item.platform else ""
    if item.entry.kind == PROGRAM:
        inputs = counted(len(input_rows(item.metadata)), "input")
        return f"{key} is the lowered program{graph}{platform}, with {inputs}."
    if item.entry.kind == EXECUTABLE:
        return f"{key} is the executable{graph}{platform}, of program {(item.program or 'unknown')[:12]}."
    return f"{key} is an entry of kind {item.entry.kind}{graph}{platform}."


def parts_of(item: Described) -> list[tuple[str, str]]:
    """The parts of an entry's metadata by name, in words."""
    found = [("kind", item.entry.kind)]
    if item.graph:
        found.append(("graph", item.graph))
    if item.program:
        found.append(("program", item.program))
    metadata = item.metadata
    if isinstance(keyed := metadata.get("keyed"), Mapping):
        found += [(name, _value(value)) for name, value in keyed.items() if name not in ("graph", "lowering")]
        if isinstance(keyed.get("lowering"), Mapping):
            found.append(("lowering", ", ".join(f"{k} {str(v)[:12]}" for k, v in keyed["lowering"].items())))
    if isinstance(told := metadata.get("told"), Mapping):
        found += [(name, _value(told[name])) for name in ("guards", "shape guards") if told.get(name)]
    if isinstance(environment := metadata.get("environment"), Mapping):
        found += [(name, _value(value)) for name, value in environment.items()]
    if isinstance(seconds := metadata.get("compile_seconds"), int | float):
        found.append(("compiled in", f"{seconds:.2f} s"))
    return found


def input_rows(metadata: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Name, dtype, size, stride and device of each of a program's inputs."""
    told = metadata.get("told")
    inputs = told.get("inputs") if isinstance(told, Mapping) else None
    if not isinstance(inputs, Mapping):
        return []
    tensors = [(str(name), tensor) for name, tensor in inputs.items() if isinstance(tensor, Mapping)]
    return [
        (name, _value(t.get("dtype", "")), sizes(t.get("size")), sizes(t.get("stride")), _value(t.get("device", "")))
        for name, t in tensors
    ]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        text = " ".join(map(str, value)) if all(" " not in str(v) for v in value) else ", ".join(map(str, value))
        text = text or "none"
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rsplit(' ', 1)[0]} … ({len(value)} in all)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} …"
