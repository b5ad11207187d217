"""A graph's data without the user's paths and names, and without strings that other libraries' operators are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpu_dynamo_lowering import is_own

from ..diagnostics.redaction import Redaction

# Whose operators' strings are PyTorch's own words, as `rounding_mode="floor"`.
_PYTORCHS = ("aten::", "prims::", "higher_order::", "function::")


def redact_graph(data: dict[str, Any], names: Redaction) -> dict[str, Any]:
    """Return a graph's data with stand-ins for files, functions and the names of its inputs.

    A line keeps its number. Strings among the arguments of operators that are not PyTorch's are stand-ins too, so that
    such a graph may take another way when it is replayed.
    """
    renamed: dict[str, str] = {}

    def name(text: str) -> str:
        return renamed.get(text, text)

    nodes = []
    for node in data["nodes"]:
        found = dict(node)
        if node["op"] == "placeholder":
            renamed[node["name"]] = f"input_{len(renamed)}"
        elif node["op"] == "get_attr":
            renamed[node["name"]] = f"constant_{len(renamed)}"
        elif node["op"] == "call_function":
            renamed[node["name"]] = f"value_{len(renamed)}"
        found["name"] = name(node["name"])
        if "line" in node:
            file, line, function = node["line"]
            found["line"] = [names.file(file, is_own(file)), line, names.name("function", function)]
        if "graph" in node:
            found["graph"] = redact_graph(node["graph"], names)
        if "args" in node:
            keep = node.get("target", "function::").startswith(_PYTORCHS)
            found["args"], found["kwargs"] = (_argument(node[each], name, names, keep) for each in ("args", "kwargs"))
        nodes.append(found)
    return {"nodes": nodes}


def _argument(value: Any, name: Callable[[str], str], names: Redaction, keep: bool) -> Any:
    if isinstance(value, str):
        return value if keep else names.name("string", value)
    if isinstance(value, list):
        return [_argument(each, name, names, keep) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "node":
        return {"node": name(inner)}
    if kind == "dict":
        return {"dict": {key: _argument(each, name, names, keep) for key, each in inner.items()}}
    return {kind: _argument(inner, name, names, keep)} if kind in ("tuple", "slice") else value
