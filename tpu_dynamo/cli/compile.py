"""`tpu-dynamo compile`: a model's graphs in the forms that they pass through, for a target that need not be there."""

from __future__ import annotations

import json as json_text
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import print_json, say, waiting
from .exit_codes import ExitCode, end, refuse
from .factory_graphs import Factory, Init, Target, Training, build
from .shared_options import Json, NoProgress

if TYPE_CHECKING:
    from tpu_dynamo import TargetGraph
    from tpu_dynamo_runtime import Exchange


class Form(StrEnum):
    """A form of a graph."""

    fx = "fx"
    torch = "torch"
    stablehlo = "stablehlo"
    hlo = "hlo"
    cost = "cost"
    exe = "exe"


_FILES = {
    Form.fx: "fx.py",
    Form.torch: "torch.mlir",
    Form.stablehlo: "stablehlo.mlir",
    Form.hlo: "hlo.txt",
    Form.cost: "cost.json",
    Form.exe: "executable",
}
# The forms that lowering makes, under the names of its dumps; XLA is not needed for them.
_LOWERED = {Form.fx: "aot.fx.py", Form.torch: "torch.mlir", Form.stablehlo: "stablehlo.mlir"}


def compile(
    factory: Factory,
    target: Target,
    emit: Annotated[
        list[Form] | None, typer.Option("--emit", help="A form to write; several with several --emit. By default exe.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")] = Path(),
    training: Training = False,
    init: Init = "random",
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Compile a model for a target and write its graphs: FX, torch dialect, StableHLO, HLO, costs, executables.

    Exits with 4 when something does not compile or does not fit the chip.
    """
    forms = list(dict.fromkeys(emit or [Form.exe]))
    with waiting(f"building {factory}", not no_progress):
        built, calling = build(factory, init)
    unfit: list[str] = []
    with waiting(f"compiling {factory} for {target}", not no_progress), tempfile.TemporaryDirectory() as dumps, calling:
        (args, kwargs) = built.walks[0][0]
        options = {"dump_dir": Path(dumps)} if {Form.fx, Form.torch} & set(forms) else None
        names, compiled = _graphs(built.model, args, kwargs, target, training, options, forms, dumps)
        try:
            output.mkdir(parents=True, exist_ok=True)
            written = [
                _write(output / f"{name}.{_FILES[form]}", content)
                for name, form, content in _contents(names, compiled, forms, dumps, target, unfit)
            ]
        except OSError as error:
            refuse(f"{output}: {error.strerror}", ExitCode.ENVIRONMENT)
    if json:
        print_json([{"file": str(file), "bytes": file.stat().st_size} for file in written])
    else:
        for file in written:
            typer.echo(file)
    for why in unfit:
        say(f"tpu-dynamo: {why}")
    if unfit:
        end(ExitCode.FAILED)


def _graphs(
    model: Any,
    args: Any,
    kwargs: Any,
    target: str,
    training: bool,
    options: dict[str, Any] | None,
    forms: list[Form],
    dumps: str,
) -> tuple[list[str], list[TargetGraph]]:
    """Return the names of the graphs, and the compiled graphs if a form needs XLA.

    Without XLA there are no compiled graphs, and StableHLO is among the dumps.
    """
    from tpu_dynamo.ahead_of_time.target_graphs import compile_for, lower_model
    from tpu_dynamo.options import Options
    from tpu_dynamo_runtime import find_topology, resolve

    if set(forms) - set(_LOWERED):
        compiled = compile_for(model, args, kwargs, target=target, training=training, options=options)
        return [graph.name for graph in compiled], compiled
    topology = find_topology(target)
    platform = "tpu" if topology is not None else resolve(target, 0)
    fast_memory = topology.chip.vmem if topology is not None else None
    given = {"dump_dir": Path(dumps), "target": target}
    programs = lower_model(
        model, args, kwargs, platform, Options.parse(given), training=training, fast_memory=fast_memory
    )
    return [program.name for program in programs], []


def _contents(
    names: list[str], compiled: list[TargetGraph], forms: list[Form], dumps: str, target: str, unfit: list[str]
) -> Iterator[tuple[str, Form, bytes]]:
    from tpu_dynamo import DoesNotFit

    for number, name in enumerate(names):
        graph = compiled[number] if compiled else None
        for form in forms:
            if form is Form.stablehlo and graph is not None:
                yield name, form, graph.stablehlo.encode()
            elif form in _LOWERED:
                yield name, form, (Path(dumps) / target.replace(":", "-") / name / _LOWERED[form]).read_bytes()
            elif graph is not None:
                try:
                    yield name, form, _form_of_xla(graph, form)
                except DoesNotFit as too_large:
                    if not any(why.startswith(name) for why in unfit):
                        unfit.append(f"{name}: {too_large}")


def _form_of_xla(graph: TargetGraph, form: Form) -> bytes:
    if form is Form.hlo:
        return graph.optimized_hlo.encode()
    if form is Form.exe:
        return graph.executable
    return json_text.dumps(cost_data(graph), indent=2).encode()


def cost_data(graph: TargetGraph) -> dict[str, Any]:
    """Return the costs of a graph as plain data. Raises DoesNotFit."""
    cost, memory = graph.cost, graph.memory
    return {
        "graph": graph.name,
        "role": graph.role,
        "target": graph.target,
        "cycles": cost.cycles,
        "flops": cost.flops,
        "bytes_accessed": cost.bytes_accessed,
        "unestimated": cost.unestimated,
        "kernels": cost.kernels,
        "replaced": cost.replaced,
        "memory": memory_data(graph),
        "lines": [
            {"file": row.file, "line": row.line, "cycles": row.cycles, "bytes_accessed": row.bytes_accessed}
            for row in cost.by_line()
        ],
        "fits": memory.fits,
        "communication": communication_data(graph),
    }


def communication_data(graph: TargetGraph) -> dict[str, Any] | None:
    """Return what a graph over several chips exchanges as plain data; None for one without collectives."""
    found = graph.communication
    if found is None:
        return None

    def share(each: Exchange) -> dict[str, Any]:
        return {"bytes": each.nbytes, "seconds": each.seconds, "collectives": each.count}

    return {
        "ranks": len(graph.span),
        "compute_seconds": found.compute,
        "step_seconds": found.step,
        "share": found.share,
        "axes": {axes: share(each) for axes, each in found.by_axis().items()},
        "kinds": {kind: share(each) for kind, each in found.by_kind().items()},
        "lines": [
            {"file": place and place[0], "line": place and place[1], **share(each)}
            for place, each in found.by_line().items()
        ],
    }


def memory_data(graph: TargetGraph) -> dict[str, Any]:
    """Return the memory that a graph needs as plain data, in bytes."""
    import dataclasses

    return {**dataclasses.asdict(graph.memory), "fits": graph.memory.fits}


def _write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file
