"""A cache as the backend leaves it: programs and executables with the metadata that these have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tpu_dynamo.cli import app
from tpu_dynamo_runtime.store import Store, open_store


def run(*arguments: object, directory: Path | None = None):
    """A command line, in this process."""
    where = ["--cache-dir", directory] if directory is not None else []
    return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *where)])


def told(*arguments: object, directory: Path | None = None) -> Any:
    """Return the value that a command line prints under --json."""
    done = run(*arguments, "--json", directory=directory)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def program(
    store: Store, name: str, function: str, *, sizes: tuple[int, ...] = (2, 8), libtpu: str = "0.0.52"
) -> tuple[str, str]:
    """Kind and key of a program of `function(x)` that was written."""
    metadata = {
        "program": key(f"program of {name}"),
        "key_parts": {
            "graph": key(f"graph of {name}"),
            "platform": "cpu",
            "donates": False,
            "options": {"partitioner": "min_cut"},
            "versions": {"torch": "2.13.0", "libtpu": libtpu},
        },
        "explanation": {
            "role": "inference",
            "function": function,
            "code": key(function),
            "inputs": {"L['x']": {"dtype": "float32", "size": list(sizes), "stride": [8, 1], "device": "cpu"}},
            "guards": ["TENSOR_MATCH L['x']"],
            "shape guards": [],
        },
    }
    sections = {"description": b"{}", "stablehlo": b"module {}" * 100, "graph": b"0 = aten.relu.default"}
    assert store.put("program", key(name), sections, metadata)
    return "program", key(name)


def executable(store: Store, name: str, of: str, *, jaxlib: str = "0.10.2", platform: str = "cpu") -> tuple[str, str]:
    """Kind and key of an executable of a program that was written."""
    environment = {"platform": platform, "jaxlib": jaxlib, "XLA_FLAGS": ["--xla_a=1"]}
    metadata = {"program": key(f"program of {of}"), "environment": environment, "compile_seconds": 0.5}
    assert store.put("executable", key(name), {"executable": name.encode() * 500}, metadata)
    return "executable", key(name)


def filled(directory: Path) -> Store:
    """A store of two programs, one of them with executables for two platforms; last used in this order."""
    moment = iter(range(1_700_000_000, 1_800_000_000, 86_400))
    store = open_store(directory, clock=lambda: next(moment))
    program(store, "bert", "Bert.forward")
    executable(store, "bert on cpu", "bert")
    executable(store, "bert on tpu", "bert", platform="tpu")
    program(store, "resnet", "ResNet.forward", sizes=(1, 3))
    return store


def damage(directory: Path, kind: str, name: str) -> None:
    """Flip the last byte of an entry."""
    path = directory / "entries" / kind / key(name)[:2] / key(name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def kept(directory: Path) -> set[str]:
    """The keys of the entries that are there."""
    return {path.name for path in (directory / "entries").glob("*/*/*")}
