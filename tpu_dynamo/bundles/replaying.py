"""Replaying a bundle: its graphs go the same way again, here and with what is installed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tpu_dynamo_lowering import NotData, graph_from_data
from tpu_dynamo_runtime import open_compiler

from ..graph.prepare import PreparedGraph
from ..options import Options
from ..version import versions
from .archive import MAX_BYTES, read_bundle
from .manifest import BadBundle, Failure, Manifest, PackedGraph
from .stages import Way, go

Verdict = Literal["as packed", "fails as packed", "fails otherwise", "no longer fails", "fails here alone"]


@dataclass(frozen=True)
class ReplayedGraph:
    """A graph of a bundle after its way here. then, now: where it failed; None where it went through."""

    name: str
    role: str
    then: Failure | None
    now: Failure | None
    reached: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The relation of its way here to the one that was packed."""
        if self.now is None:
            return "as packed" if self.then is None else "no longer fails"
        if self.then is None:
            return "fails here alone"
        same = (self.then.stage, self.then.type, self.then.code) == (self.now.stage, self.now.type, self.now.code)
        return "fails as packed" if same else "fails otherwise"


@dataclass(frozen=True)
class Replay:
    """A bundle's graphs after their way here. different: versions then and now, by package, where they differ."""

    target: str
    graphs: tuple[ReplayedGraph, ...]
    different: dict[str, tuple[str, str]]

    @property
    def fails(self) -> bool:
        """True if a graph fails here."""
        return any(graph.now is not None for graph in self.graphs)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {**asdict(self), "graphs": [{**asdict(each), "verdict": each.verdict} for each in self.graphs]}


def replay(path: Path, *, target: str | None = None, max_bytes: int = MAX_BYTES) -> Replay:
    """Take a bundle's graphs through lowering, XLA and, where their inputs' values are packed, a check.

    target: another than the bundle's. Nothing of the bundle is run as code, and nothing is unpacked. Raises BadBundle,
    OSError, UnknownTarget and PlatformUnavailable.
    """
    manifest, files = read_bundle(path, max_bytes)
    target = target or manifest.target
    options = Options.parse({**manifest.safe_options(), "target": target})
    found = []
    with open_compiler(target) as compiler:
        for each in manifest.graphs:
            graph, inputs = _restored(each, files)
            runs_here = inputs if ":" not in target else None
            found.append(_replayed(each, go(graph, compiler, options, runs_here)))
    return Replay(target, tuple(found), _different(manifest))


def _replayed(packed: PackedGraph, way: Way) -> ReplayedGraph:
    return ReplayedGraph(packed.name, packed.role, packed.failure, way.failure, tuple(way.reached))


def _different(manifest: Manifest) -> dict[str, tuple[str, str]]:
    here = versions()
    packages = {**manifest.versions, **here}
    pairs = {name: (manifest.versions.get(name, "none"), here.get(name, "none")) for name in packages}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _restored(packed: PackedGraph, files: Mapping[str, bytes]) -> tuple[PreparedGraph, list[Any] | None]:
    """Return a graph of a bundle, and its inputs where their values are packed. Raises BadBundle."""
    try:
        constants = _tensors(packed.constants, files)
        module = graph_from_data(json.loads(files[packed.graph]), constants)
    except (NotData, KeyError, ValueError) as why:
        raise BadBundle(f"graph {packed.name}: {why}") from why
    placeholders = module.graph.find_nodes(op="placeholder")
    graph = PreparedGraph(
        packed.name,
        packed.role,
        module,
        module,
        packed.on_device,
        static=frozenset(packed.static),
        returned=packed.returned,
    )
    if packed.values is None:
        return graph, None
    values = _tensors(packed.values, files)
    return graph, [_input(node.meta["val"], values.get(str(i))) for i, node in enumerate(placeholders)]


def _tensors(name: str | None, files: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if name is None:
        return {}
    try:
        return load(files[name])
    except SafetensorError as error:
        raise BadBundle(f"{name} is damaged: {error}") from error


def _input(fake: Any, stored: torch.Tensor | None) -> Any:
    """Return an input as its graph takes it: with the strides and on the device of its fake tensor."""
    if not isinstance(fake, torch.Tensor):
        return fake
    if stored is None:
        raise BadBundle("the value of an input is missing")
    value = torch.view_as_complex(stored) if fake.is_complex() else stored
    placed = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype).copy_(value)
    return placed.to(fake.device.type) if fake.device.type != "cpu" else placed
