"""The manifest of a bundle: what is in it, how far its graphs got, and the checksums of its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

VERSION = 1

# The stages of a graph's way, in their order: through our lowering, through XLA, and beside eager operators.
Stage = Literal["lowering", "XLA", "check"]


# Options that name places of a machine, or say when to compute: none of a bundle's.
PLACES = ("dump_dir", "cache_dir", "cache", "check")


class BadBundle(ValueError):
    """A file that is no bundle, is damaged, or holds more than it may."""


@dataclass(frozen=True)
class PackedFile:
    """A file of a bundle: its bytes, and their SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Failure:
    """The stage at which a graph ended, with the error's type, its code and its words; no words where redacted."""

    stage: Stage
    type: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class PackedGraph:
    """One graph of a bundle.

    graph: the file of its operators. constants, values: of its own tensors, and of its inputs, where they are packed.
    program: of its StableHLO, where it was lowered. inputs: for each, a tensor's shape, strides, dtype and device, or a
    number. reached: the stages that it went through. The rest as in PreparedGraph.
    """

    name: str
    role: str
    graph: str
    inputs: tuple[Any, ...]
    on_device: bool
    returned: int | None
    static: tuple[int, ...]
    constants: str | None = None
    values: str | None = None
    program: str | None = None
    reached: tuple[Stage, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest. target: a platform or topology. options: those that are not the defaults."""

    versions: dict[str, str]
    target: str
    options: dict[str, Any]
    redacted: bool
    graphs: tuple[PackedGraph, ...]
    files: dict[str, PackedFile] = field(default_factory=dict)
    format: Literal["tpu-dynamo bundle"] = "tpu-dynamo bundle"
    version: Literal[1] = VERSION

    def safe_options(self) -> dict[str, Any]:
        """Return the options. Raises BadBundle for those by which a bundle of another's would read or write files."""
        flags = dict(self.options.get("xla_flags", ()))
        named = [name for name in self.options if name in PLACES]
        named += [name for name, value in flags.items() if "dump" in name or {"/", "\\"} & set(str(value))]
        if named:
            raise BadBundle(f"its options name files of this machine: {', '.join(named)}")
        return self.options

    def to_json(self) -> bytes:
        """Return the manifest as JSON."""
        return _adapter().dump_json(self, indent=2)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read a manifest. Raises BadBundle."""
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadBundle(f"its manifest is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)
