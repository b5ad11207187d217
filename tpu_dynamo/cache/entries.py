"""What the entries of the cache say of themselves, read from their headers alone: no torch, no program.

A file is not believed: what is not as `programs.keep` and `executables.obtain` write it counts as not said.
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
    graph: whose it is, as `inference Model(x 2x64)`. Each is None where nothing says it.
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
        """What its writer says of it."""
        return self.entry.header.metadata if self.entry.header is not None else {}


def describe(listed: Iterable[Listed]) -> list[Described]:
    """Entries with what they say; an executable is named after its program's graph where that is among them."""
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
    """Whether a program's metadata has the parts that differences are told by."""
    keyed, told = metadata.get("keyed"), metadata.get("told")
    if not isinstance(keyed, Mapping) or not isinstance(told, Mapping) or not isinstance(told.get("inputs"), Mapping):
        return False
    parts = all(name in told for name in ("role", "code", "guards"))
    return parts and all(isinstance(each, Mapping) for each in told["inputs"].values())


def _program(item: Listed) -> str | None:
    return _text(_metadata(item).get("program"))


def _platform(item: Listed) -> str | None:
    metadata = _metadata(item)
    for name in ("environment", "keyed"):
        if isinstance(metadata.get(name), Mapping):
            return _text(metadata[name].get("platform"))
    return None


def _graph(item: Listed) -> str | None:
    told = _metadata(item).get("told")
    if not isinstance(told, Mapping):
        return None
    function, role = _text(told.get("function")), _text(told.get("role"))
    inputs = told.get("inputs")
    if function and isinstance(inputs, Mapping):
        function = function.removesuffix(".forward") + _call(inputs)
    return " ".join(part for part in (role, function) if part) or None


def _call(inputs: Mapping[str, Any]) -> str:
    """The function's own arguments among the inputs, as `(x 2x64)`: what tells calls of one model apart."""
    own = [
        f"{match[1] or match[2] or ''} {sizes(tensor.get('size'))}".lstrip()
        for name, tensor in inputs.items()
        if isinstance(tensor, Mapping) and (match := _ARGUMENT.fullmatch(name))
    ]
    return f"({', '.join(own[:_ARGUMENTS])}{', …' if len(own) > _ARGUMENTS else ''})" if own else ""


def sizes(value: Any) -> str:
    """A list of sizes, as `2x64`; a number's is `()`."""
    return ("x".join(map(str, value)) or "()") if isinstance(value, list) else ""


def _metadata(item: Listed) -> Mapping[str, Any]:
    return item.header.metadata if item.header is not None else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
