"""Unstable APIs are reached through their doors alone, so that a rename upstream is a change of one file.

ruff bans the modules that its tables list; the walk over the sources here finds every private name below torch.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "tpu_dynamo": ROOT / "tpu_dynamo",
    "tpu_dynamo_lowering": ROOT / "lowering" / "tpu_dynamo_lowering",
    "tpu_dynamo_runtime": ROOT / "runtime" / "tpu_dynamo_runtime",
}
JAX_DOORS = {
    "tpu_dynamo_lowering/jax_compat",
    "tpu_dynamo_lowering/pallas_compat.py",
    "tpu_dynamo_runtime/pjrt.py",
    "tpu_dynamo_runtime/pjrt_job.py",
    "tpu_dynamo_runtime/profiler_compat.py",
    "tpu_dynamo_runtime/topology_worker.py",
}
MLIR_DOORS = {"tpu_dynamo_lowering/mlir.py"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def door_of(dotted: str) -> str | None:
    """Return the API that `dotted` belongs to and that has a door ("torch", "jax", "torch_mlir"), None if it has none.

    What comes after `torch.ops.aten` are operators' names, which may begin with an underscore and are public.
    """
    top, *rest = dotted.split(".")
    if top == "torch_mlir":
        return "torch_mlir"
    if top == "jaxlib" or (top == "jax" and any(map(is_private, rest))):
        return "jax"
    if top == "torch" and rest[:1] != ["ops"] and (any(map(is_private, rest)) or rest[:2] == ["fx", "experimental"]):
        return "torch"
    return None


def is_door(file: str, api: str) -> bool:
    if api == "torch":
        return any(part in ("_torch_compat", "_torch_compat.py") for part in file.split("/"))
    doors = JAX_DOORS if api == "jax" else MLIR_DOORS
    return file in doors or file.rpartition("/")[0] in doors


def absolute_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of each import, and of each attribute chain that begins with one."""
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        attributes, inner = [], node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if attributes and isinstance(inner, ast.Name) and inner.id in bound:
            yield node.lineno, ".".join([bound[inner.id], *reversed(attributes)])


def leaks(file: str, source: str) -> list[str]:
    """Return `line: name` for all that `source` reaches past the doors. file: its path, from its package on."""
    found = dict.fromkeys(
        f"{line}: {name}"
        for line, name in absolute_names(ast.parse(source))
        if (api := door_of(name)) is not None and not is_door(file, api)
    )
    return list(found)


def banned(settings: dict[str, Any]) -> dict[str, str]:
    """Return the modules that ruff bans, with their messages, but for those of our own and torch.fx."""
    table = settings["lint"]["flake8-tidy-imports"]["banned-api"]
    return {name: ban["msg"] for name, ban in table.items() if not name.startswith("tpu_dynamo") and name != "torch.fx"}


@pytest.mark.parametrize("package", PACKAGES)
def test_unstable_apis_are_reached_through_their_doors(package):
    folder = PACKAGES[package]
    files = {f"{package}/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*.py"))}
    assert files
    found = {file: leaks(file, path.read_text()) for file, path in files.items()}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize("folder", ["lowering", "runtime"])
def test_ruff_bans_the_same_modules_in_each_package(folder):
    everywhere = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert banned(tomllib.loads((ROOT / folder / "ruff.toml").read_text())) == banned(everywhere)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import torch\ntorch._C._get_tracing_state()", id="attribute"),
        pytest.param("import torch as t\nt._dynamo.reset()", id="renamed"),
        pytest.param("from torch import _ops", id="from-torch"),
        pytest.param("from torch.utils import _pytree", id="pytree"),
        pytest.param("from torch import utils\nutils._pytree.tree_map", id="through-a-public-module"),
        pytest.param("import torch\ndef f(operator: torch._ops.OpOverload): ...", id="annotation"),
        pytest.param("from torch.fx.experimental.proxy_tensor import make_fx", id="experimental"),
        pytest.param("import torch.fx.experimental.proxy_tensor", id="import-experimental"),
        pytest.param("def f():\n    from jax._src import core", id="jax-inside-a-function"),
        pytest.param("import jax\njax._src.core", id="jax-attribute"),
        pytest.param("from jaxlib.mlir import ir", id="jaxlib"),
        pytest.param("import torch_mlir.ir", id="torch-mlir"),
    ],
)
def test_a_leak_is_seen(source):
    assert leaks("tpu_dynamo_lowering/pipeline.py", source)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import torch\ntorch.ops.aten._conj.default", id="operator"),
        pytest.param("import torch\ntorch.__version__", id="dunder"),
        pytest.param("from ._torch_compat import pytree\npytree.tree_map", id="through-the-door"),
        pytest.param("import jax\njax.lax.add", id="public-jax"),
    ],
)
def test_what_is_public_passes(source):
    assert not leaks("tpu_dynamo_lowering/pipeline.py", source)
