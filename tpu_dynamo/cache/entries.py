"""Descriptions of the cache's entries, read from their headers alone: no torch, no program.

A file is not trusted: metadata that is not as `programs.keep` and `executables.obtain` write it is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpu_dynamo_runtime.store import Listed

PROGRAM, EXECUTABLE = "program", "executable"
# Kinds that hold no native code, and nothing that only one environment can use.
PORTABLE = (PROGRAM,)

# Also as a decorator's wrapper names them.
_ARGUMENT = re.compile(r"L\['(\w+)'\]|L\['kwargs'\]\['(\w+)'\]|L\['args'\]\[\d+\]")
_ARGUMENTS = 3


@dataclass(frozen=True)
class Described:
    """An entry in a listing, in words.

    program: the digest of the program that it is, or is the executable of. platform: the PJRT platform that it is for.
    graph: the graph that it belongs to, as `inference Model(x 2x64)`. Each is None where it is not known.
    """

    entry: Listed
    program: str | None
    platform: str | None
    graph: str | None

    @property
    def plain_size(self) -> int | None:
        """Bytes of its sections before compression."""
        return self.entry.header.size if self.entry.header is not None else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that its writer gave it; empty where its header cannot be read."""
        return self.entry.header.metadata if self.entry.header is not None else {}


def describe(listed: Iterable[Listed]) -> list[Described]:
    """Describe entries; an executable is named after its program's graph where that program is among them."""
    found = list(listed)
    names: dict[str, str] = {}
    for item in found:
        if item.kind == PROGRAM and (digest := _program(item)) is not None and (name := _graph(item)) is not None:
            names.setdefault(digest, name)
    return [
        Described(item, digest := _program(item), _platform(item), _graph(item) or names.get(digest or ""))
        for item in found
    ]


def explains(metadata: Mapping[str, Any]) -> bool:
    """Return whether a program's metadata has the parts from which `differences` explains a miss."""
    explanation = metadata.get("explanation")
    if not isinstance(metadata.get("key_parts"), Mapping) or not isinstance(explanation, Mapping):
        return False
    inputs = explanation.get("inputs")
    if not isinstance(inputs, Mapping) or not all(name in explanation for name in ("role", "code", "guards")):
        return False
    return all(isinstance(each, Mapping) for each in inputs.values())


def _program(item: Listed) -> str | None:
    return _text(_metadata(item).get("program"))


def _platform(item: Listed) -> str | None:
    metadata = _metadata(item)
    for name in ("environment", "key_parts"):
        if isinstance(metadata.get(name), Mapping):
            return _text(metadata[name].get("platform"))
    return None


def _graph(item: Listed) -> str | None:
    explanation = _metadata(item).get("explanation")
    if not isinstance(explanation, Mapping):
        return None
    function, role = _text(explanation.get("function")), _text(explanation.get("role"))
    inputs = explanation.get("inputs")
    if function and isinstance(inputs, Mapping):
        function = function.removesuffix(".forward") + _call(inputs)
    return " ".join(part for part in (role, function) if part) or None


def _call(inputs: Mapping[str, Any]) -> str:
    """Format the function's own arguments among the inputs, as `(x 2x64)`: they distinguish calls of one model."""
    own = [
        f"{match[1] or match[2] or ''} {sizes(tensor.get('size'))}".lstrip()
        for name, tensor in inputs.items()
        if isinstance(tensor, Mapping) and (match := _ARGUMENT.fullmatch(name))
    ]
    return f"({', '.join(own[:_ARGUMENTS])}{', …' if len(own) > _ARGUMENTS else ''})" if own else ""


def sizes(value: Any) -> str:
    """Format a list of sizes, as `2x64`; `()` for an empty one, that of a number."""
    return ("x".join(map(str, value)) or "()") if isinstance(value, list) else ""


def _metadata(item: Listed) -> Mapping[str, Any]:
    return item.header.metadata if item.header is not None else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
