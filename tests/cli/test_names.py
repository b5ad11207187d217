"""Public names that are imported when they are asked for: type checkers see the ones that there are."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest


def declared(package) -> dict[str, str]:
    """The names under `if TYPE_CHECKING`, each with the module that it is imported from."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "without `as` a type checker takes it for private"
            found[alias.name] = "." * statement.level + (statement.module or "")
    return found


@pytest.mark.parametrize("name", ["tpu_dynamo", "tpu_dynamo.diagnostics", "tpu_dynamo_runtime"])
def test_the_names_that_type_checkers_see_are_those_that_there_are(name):
    package = importlib.import_module(name)
    placed = {name: module for module, names in package._PLACES.items() for name in names}
    assert declared(package) == placed
    assert package.__all__ == sorted(placed) == dir(package)
    for public, module in placed.items():
        assert getattr(package, public) is getattr(importlib.import_module(module, name), public)


@pytest.mark.parametrize("name", ["tpu_dynamo", "tpu_dynamo.diagnostics", "tpu_dynamo_runtime"])
def test_no_name_is_that_of_a_module(name):
    """Else importing the module would put it in the name's place."""
    package = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert not modules & set(package.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    package = importlib.import_module("tpu_dynamo")
    with pytest.raises(AttributeError, match=r"module 'tpu_dynamo' has no attribute 'compile_fro'"):
        _ = package.compile_fro
