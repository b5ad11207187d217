"""The options of `compile` and `cost`, and the model that they build with a factory."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exit_codes import ExitCode, refuse

if TYPE_CHECKING:
    from tpu_dynamo.warmup.factories import Built

Factory = Annotated[
    str, typer.Argument(metavar="MODULE:FACTORY", help="A function that gives (model, args) or (model, args, kwargs).")
]
Target = Annotated[str, typer.Option("--target", metavar="TARGET", help="As v5e:2x2; no TPU is needed. Or as cpu.")]
Training = Annotated[bool, typer.Option("--training", help="The forward and backward graphs, not those of inference.")]
MeshSizes = Annotated[
    str | None,
    typer.Option(
        "--mesh", metavar="NAME=N,...", help="A DeviceMesh over all chips, which the factory then takes: dp=32,tp=8."
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option("--optimizer", metavar="MODULE:FUNCTION", help="From parameters; then of a whole training step."),
]
Init = Annotated[
    str,
    typer.Option(
        "--init", metavar="meta|random", help="meta builds the model on the meta device, where weights take no memory."
    ),
]


def mesh_of(text: str | None) -> dict[str, int] | None:
    """Return the sizes of a mesh by name, of `dp=32,tp=8`. Refuses what is not of that form."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*\w+=\d+(\s*,\s*\w+=\d+)*\s*", text)
    if found is None:
        refuse(f"--mesh {text}: it is not of the form dp=32,tp=8")
    return {name: int(size) for name, size in re.findall(r"(\w+)=(\d+)", text)}


def build(factory: str, init: str) -> tuple[Built, Any]:
    """Call the factory; return the model, and a context in which to call it. Refuses what cannot be built."""
    from tpu_dynamo.device import register_if_free
    from tpu_dynamo.warmup import factories
    from tpu_dynamo.warmup.cases import Case
    from tpu_dynamo.warmup.problems import CaseError, called

    if init not in ("meta", "random"):
        refuse(f"--init {init}: there are meta and random")
    register_if_free()
    case = Case(factory, factory, "", factory=factory, folders=(os.getcwd(),), init=init, module_mode="as_built")
    try:
        built = factories.build(case)
    except CaseError as error:
        refuse(str(error))

    @contextlib.contextmanager
    def calling() -> Iterator[None]:
        try:
            with called(built.walks[0][:3]):
                yield
        except CaseError as error:
            refuse(str(error), ExitCode.FAILED)

    return built, calling()
