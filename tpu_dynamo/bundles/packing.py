"""Packing a model's graphs, how far each gets on its way to a program, and what decides that, into one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import NotData, UnsupportedOp, graph_from_data, graph_to_data
from tpu_dynamo_runtime import Compiler, open_compiler

from ..ahead_of_time.capture import capture
from ..ahead_of_time.steps import MakeOptimizer, capture_steps, model_inputs
from ..ahead_of_time.target_graphs import device_of
from ..cache.signature import Frame
from ..diagnostics.redaction import Redaction
from ..graph.compiled import EagerGraph
from ..graph.prepare import BoxedCallable, PreparedGraph, Sizes, prepare_graph
from ..options import Options
from ..version import versions
from .archive import MAX_BYTES, write_bundle
from .manifest import PLACES, BadBundle, Failure, Manifest, PackedGraph
from .redacting import redact_graph
from .stages import go


@dataclass
class _Captured:
    graph: PreparedGraph
    sizes: Sizes
    inputs: list[Any] | None = None


def pack(
    path: Path,
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str,
    training: bool = False,
    optimizer: MakeOptimizer | None = None,
    values: bool = False,
    redact: bool = False,
    options: Mapping[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Manifest:
    """Write a model's graphs to a bundle: operators, shapes, options, versions, programs, and where each ended.

    Each graph is lowered and compiled for `target`, a platform or a topology. values: also the inputs' values, by a
    call in eager; then each graph is run here and checked, too. training, optimizer: as of compile_for. redact: with
    stand-ins for the user's paths, names and strings; error messages stay out. Raises BadBundle for a model that cannot
    be packed, OSError, and what capturing raises.
    """
    chosen = Options.parse({**(options or {}), "target": target})
    captured = _captured(model, args, kwargs, target, chosen, training, optimizer, values)
    names, files, graphs = Redaction(), dict[str, bytes](), list[PackedGraph]()
    with open_compiler(target) as compiler:
        for each in captured:
            graphs.append(_packed(each, compiler, chosen, names if redact else None, files))
    given = {f.name: getattr(chosen, f.name) for f in fields(Options) if getattr(chosen, f.name) != f.default}
    kept = {name: value for name, value in given.items() if name not in (*PLACES, "target")}
    manifest = Manifest(versions(), target, kept, redact, tuple(graphs))
    return write_bundle(path, manifest, files, max_bytes)


def _captured(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    target: str,
    options: Options,
    training: bool,
    optimizer: MakeOptimizer | None,
    values: bool,
) -> list[_Captured]:
    found: list[_Captured] = []
    unsized: list[UnsupportedOp] = []
    platform = "tpu" if ":" in target else target

    def visit(
        role: str, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Frame
    ) -> Callable[[list[Any]], list[Any]] | None:
        graph = prepare_graph(role, graph_module, f"{len(found):04d}-{role}", frame)
        try:
            entry = _Captured(graph, graph.sizes(example_inputs))
        except UnsupportedOp as unsupported:  # a size that depends on data, which no bundle can name
            unsized.append(unsupported)
            return None
        found.append(entry)
        return _KeepingInputs(entry) if values else None

    def visit_step(graph: PreparedGraph) -> None:
        found.append(_Captured(replace(graph, name=f"{len(found):04d}-step"), {}))

    if optimizer is not None:
        if values:
            raise BadBundle("a whole step is captured without values: leave one of them out")
        assert isinstance(model, torch.nn.Module)
        capture_steps(model, [(model_inputs(args, kwargs or {}), ())], visit_step, optimizer=optimizer)
        return found[-1:]
    device = device_of(model, (args, kwargs), platform)
    capture(model, args, kwargs, visit, training=training, options=options, device=device, real=values)
    if unsized:
        raise BadBundle(f"a graph of the model cannot be packed: {unsized[0]}")
    if not found:
        raise BadBundle("no graph was captured: nothing that the model does is one that Dynamo compiles")
    return found


class _KeepingInputs:
    """A graph in eager that keeps the inputs of its first call."""

    def __init__(self, entry: _Captured):
        self._boxed_call = True
        self._entry = entry
        self._run: BoxedCallable = EagerGraph(entry.graph.eager)

    def __call__(self, inputs: list[Any]) -> list[Any]:
        if self._entry.inputs is None:
            self._entry.inputs = [v.detach().cpu().clone() if isinstance(v, torch.Tensor) else v for v in inputs]
        return self._run(inputs)


def _packed(
    each: _Captured, compiler: Compiler, options: Options, names: Redaction | None, files: dict[str, bytes]
) -> PackedGraph:
    """Put a graph's files among those of the bundle; return what the manifest says of it."""
    from safetensors.torch import save

    graph, folder = each.graph, f"graphs/{each.graph.name}"
    if graph.span:
        raise BadBundle("a graph has collectives, and a bundle is of one rank")
    try:
        data, constants = graph_to_data(graph.module, each.sizes)
        data = data if names is None else redact_graph(data, names)
        again = graph_from_data(data, constants)
    except NotData as why:
        raise BadBundle(f"{graph.described} cannot be packed: {why}") from why
    # What is lowered is what another machine reads.
    packed = replace(graph, module=again, eager=again, frame=Frame(), forms={}, output_names=())
    way = go(packed, compiler, options, each.inputs)
    files[f"{folder}/graph.json"] = json.dumps(data).encode()
    tensors = {
        "constants": constants,
        "values": {str(i): v for i, v in enumerate(each.inputs or ()) if isinstance(v, torch.Tensor)},
    }
    for name, stored in tensors.items():
        if stored:
            plain = {key: torch.view_as_real(v) if v.is_complex() else v for key, v in stored.items()}
            files[f"{folder}/{name}.safetensors"] = save({key: v.contiguous() for key, v in plain.items()})
    if way.program is not None:
        program = way.program.stablehlo if names is None else way.program.without_locations()
        files[f"{folder}/program.stablehlo"] = program
    failure = way.failure and (replace(way.failure, message="") if names is not None else way.failure)
    return PackedGraph(
        graph.name,
        graph.role,
        f"{folder}/graph.json",
        tuple(node["value"] for node in data["nodes"] if node["op"] == "placeholder"),
        graph.on_device,
        graph.returned,
        tuple(sorted(graph.static)),
        constants=_if_there(f"{folder}/constants.safetensors", files),
        values=_if_there(f"{folder}/values.safetensors", files),
        program=_if_there(f"{folder}/program.stablehlo", files),
        reached=tuple(way.reached),
        failure=_plain(failure),
    )


def _if_there(name: str, files: Mapping[str, bytes]) -> str | None:
    return name if name in files else None


def _plain(failure: Failure | None) -> Failure | None:
    """Return a failure whose words end where the report's advice begins, which names places of this machine."""
    if failure is None or failure.code != "TPU103":
        return failure
    return replace(failure, message=failure.message.split("\n  the graph, its IR and all versions are in ")[0])
