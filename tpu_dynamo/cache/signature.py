"""The guard signature of a graph: named parts that say why its program is what it is, the same in every process.

There are two kinds of parts. The key parts decide the program: the functional ATen graph with numbers for its sizes,
the platform, options, settings, versions and the code that lowers. Their digest is the key of level 1: equal keys,
equal programs. The explanation serves only to explain a miss: inputs and guards under the names that they have in the
user's code, so that renaming a variable changes no key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import sympy
import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import canonical, describe_tensor, fingerprint, user_line, written_nodes

from ..options import Options
from ..version import versions

# Raised when a program or its entry is made or read in another way.
_SCHEMA = 4


@dataclass(frozen=True)
class Frame:
    """Dynamo's knowledge of the code that a graph was captured from; it explains misses and is no part of the key.

    inputs: the names of the graph's inputs in Python's terms, as `L['x']`. guards: kinds and sources. shape_guards:
    conditions on sizes and their ranges. function: the qualified name of the function, as `Model.forward`. operations:
    the names that the operations of Dynamo's graph have by their lines.
    """

    inputs: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    shape_guards: tuple[str, ...] = ()
    function: str = ""
    operations: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Signature:
    """The parts of one graph at one set of sizes: values, lists of things, or parts of parts by name.

    text: the graph, one line for each operation. explain: returns the explanation, which is made only after a miss.
    line: returns the user's line of an operation, as `model.py:12`, by its number among the lines of the text.
    """

    key_parts: Mapping[str, Any]
    text: str = field(repr=False)
    explain: Callable[[], Mapping[str, Any]] = field(repr=False)
    line: Callable[[int], str | None] = field(repr=False, default=lambda number: None)

    @cached_property
    def key(self) -> str:
        """The digest of the key parts, in hexadecimal."""
        return key_of(self.key_parts)

    @cached_property
    def explanation(self) -> Mapping[str, Any]:
        """The parts that explain a miss: role, function, code, inputs and guards."""
        return self.explain()


def key_of(key_parts: Mapping[str, Any]) -> str:
    """Return the key of a program with these key parts: a SHA-256 digest in hexadecimal."""
    return hashlib.sha256(json.dumps([_SCHEMA, key_parts], sort_keys=True).encode()).hexdigest()


def surroundings() -> dict[str, Any]:
    """Return the key parts that are equal for all programs of this installation. Raises NoStableKey."""
    return {
        "versions": {**versions(), "torch build": str(torch.version.git_version)},
        "lowering": {"code": fingerprint.code_digest(), "tables": fingerprint.tables_digest()},
    }


def signature(
    graph_module: GraphModule,
    sizes: Mapping[sympy.Symbol, int | float],
    *,
    role: str,
    platform: str,
    fast_memory: int | None = None,
    options: Options,
    donates: bool,
    frame: Frame,
    handed_out: int | None = 0,
    replicas: int = 0,
) -> Signature:
    """Return the signature of a graph that `prepare` returned, with `sizes` in the place of its symbols.

    role: `forward`, `backward`, `inference` or `step`. Raises NoStableKey for a graph that no other process could
    recognise.
    """
    text = "\n".join(canonical(graph_module, sizes))
    key_parts = {"graph": _digest(text), **conditions(options, platform, donates, handed_out, fast_memory, replicas)}

    def explain() -> Mapping[str, Any]:
        # Operators without their numbers: equal for one piece of code on tensors of other sizes.
        code = "\n".join(line.partition(" = ")[2].partition(" ")[0] for line in text.splitlines())
        return {
            "role": role,
            "function": frame.function,
            "code": _digest(code),
            "inputs": _inputs(graph_module, sizes, frame.inputs),
            "guards": list(frame.guards),
            "shape guards": list(frame.shape_guards),
        }

    def line(number: int) -> str | None:
        found = user_line(written_nodes(graph_module, sizes)[number])
        return f"{found.file}:{found.line}" if found is not None else None

    return Signature(key_parts, text, explain, line)


def conditions(
    options: Options,
    platform: str,
    donates: bool,
    handed_out: int | None = 0,
    fast_memory: int | None = None,
    replicas: int = 0,
) -> dict[str, Any]:
    """Return the key parts besides the graph. Raises NoStableKey where a lowering was registered from outside."""
    return {
        "platform": platform,
        "matmul precision": torch.get_float32_matmul_precision(),
        "donates": donates,
        "handed out": handed_out,
        "fast memory": fast_memory,
        "replicas": replicas,
        "options": keyed_options(options),
        "settings": fingerprint.settings(),
        **surroundings(),
    }


def keyed_options(options: Options) -> dict[str, Any]:
    """Return the options that are parts of keys: all whose field does not say why it is none (`unkeyed`)."""
    return {f.name: getattr(options, f.name) for f in fields(options) if "unkeyed" not in f.metadata}


def _inputs(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float], names: tuple[str, ...]
) -> dict[str, Any]:
    values = [node.meta.get("val") for node in graph_module.graph.find_nodes(op="placeholder")]
    return {
        name: describe_tensor(value, sizes)
        for name, value in zip(input_names(graph_module, names), values, strict=True)
        if isinstance(value, torch.Tensor)
    }


def input_names(graph_module: GraphModule, captured: Sequence[str]) -> Sequence[str]:
    """Return the names of a graph's inputs: those in Dynamo's graph (`captured`), where there are as many."""
    nodes = graph_module.graph.find_nodes(op="placeholder")
    # AOTAutograd leaves a graph's inputs in their order, but may leave out some and add others.
    return captured if len(captured) == len(nodes) else [node.name for node in nodes]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
