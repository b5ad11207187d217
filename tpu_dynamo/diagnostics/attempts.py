"""The records of a trace, gathered by the compile that they belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._torch_compat import RESUMED
from .messages import BreakMessage, break_message, error_message
from .model import SourceSpan
from .trace_records import EVENTS, Record

_LOCAL = re.compile(r"L\['(\w+)'\]")
_WIDTHS = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8, "complex128": 16,
}  # fmt: skip


@dataclass
class MetBreak:
    """A break that one attempt at a compile ran into."""

    message: BreakMessage
    attempt: int


@dataclass
class Attempts:
    """Everything that the trace records about one compile of one frame, over all attempts at it.

    order: its position among the compiles of the trace. inputs: bytes of the tensors that are locals of the frame.
    symbols: the values that sizes and numbers had when they were made symbolic, by source. events: what our own
    backend wrote, by kind.
    """

    process: str
    id: str
    order: int
    rank: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    backward: list[Mapping[str, Any]] = field(default_factory=list)
    graphs: int = 0
    met: list[MetBreak] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    guards: str = ""
    symbols: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, Any]] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    tensors: dict[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def function(self) -> str:
        """The function as the user knows it."""
        resumed = re.fullmatch(RESUMED, self.name)
        return resumed.group("function") if resumed else self.name

    @property
    def resumes(self) -> int | None:
        """The line of the break behind which the frame goes on; None for a function that Dynamo did not make."""
        resumed = re.fullmatch(RESUMED, self.name)
        return int(resumed.group("line")) if resumed else None

    @property
    def name(self) -> str:
        """The code object's name."""
        return self.metrics.get("co_name") or ""

    @property
    def file(self) -> str:
        """The file that the function is in."""
        return self.metrics.get("co_filename") or ""

    @property
    def frame(self) -> str:
        """The identity of the code object: all compiles of one function share it."""
        return self.id.rsplit("/", 1)[0]

    @property
    def failed(self) -> str | None:
        """The kind of the error that the compile ended in."""
        return self.metrics.get("fail_type")

    def root(self, stack: tuple[SourceSpan, ...]) -> int | None:
        """Return the index of the compiled frame in a break's stack, or None; deeper frames were inlined into it."""
        for at, found in enumerate(stack):
            if found.function == self.function and found.file == self.file:
                return at
        return None


def gather(records: Iterable[Record]) -> list[Attempts]:
    """Collect the records of a trace by compile; return the compiles in the order in which they began."""
    compiles: dict[tuple[str, str], Attempts] = {}
    for record in records:
        found = compiles.get(record.key)
        if found is None:
            found = compiles[record.key] = Attempts(record.process, record.compile_id or "-", len(compiles))
        if record.rank is not None:
            found.rank = record.rank
        _add(found, record)
    return list(compiles.values())


def _add(found: Attempts, record: Record) -> None:
    kind, data, text = record.kind, record.data, record.payload or ""
    if kind == "compilation_metrics" and isinstance(data, Mapping):
        found.metrics = data
    elif kind == "bwd_compilation_metrics" and isinstance(data, Mapping):
        found.backward.append(data)
    elif kind == "dynamo_output_graph":
        found.graphs += 1
    elif kind == "dynamo_cpp_guards_str":
        found.guards = text
    elif kind == "recompile_reasons":
        found.reasons += _reasons(text)
    elif kind == "create_symbol":
        if isinstance(data, Mapping) and "source" in data:
            found.symbols[str(data["source"])] = str(data.get("val"))
    elif kind == "dynamo_graph_break_reason":
        if message := break_message(text, record.positions):
            found.met.append(MetBreak(message, record.attempt))
    elif kind == "dynamo_error":
        if message := error_message(text, record.positions):
            found.met.append(MetBreak(message, record.attempt))
    elif kind.startswith(EVENTS):
        found.events.append((kind.removeprefix(EVENTS), _json(text)))
    elif kind.startswith("describe_") and isinstance(data, Mapping):
        _add_tensor(found, kind, data)


def _add_tensor(found: Attempts, kind: str, data: Mapping[str, Any]) -> None:
    identity = (data.get("describer_id", 0), data.get("id", 0))
    if kind == "describe_tensor":
        found.tensors[identity] = data
    elif kind == "describe_source" and (local := _LOCAL.fullmatch(str(data.get("source")))):
        size = tensor_bytes(found.tensors.get(identity, {}))
        if size is not None:
            found.inputs[local.group(1)] = size


def tensor_bytes(described: Mapping[str, Any]) -> int | None:
    """Return a described tensor's bytes, or None where a size is a symbol or the dtype has no fixed width."""
    width = _WIDTHS.get(str(described.get("dtype", "")).removeprefix("torch."))
    sizes = described.get("size")
    if width is None or not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        return None
    for size in sizes:
        width *= size
    return width


def _reasons(text: str) -> list[str]:
    """Return the reasons of a recompile: the record is the reason itself where there is one, else a JSON list."""
    parsed = _json(text) if text.startswith("[\n") else None
    return [str(reason) for reason in parsed] if isinstance(parsed, list) else [text]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
