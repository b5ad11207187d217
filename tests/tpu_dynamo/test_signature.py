"""Signatures: what decides a program changes the key; names, lines, folders, hash seeds and processes do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpu_dynamo import Options
from tpu_dynamo.cache import signature
from tpu_dynamo.cache.signature import Frame
from tpu_dynamo_lowering import NoStableKey, lower, table, trace
from tpu_dynamo_lowering.ops import TABLE

Spec = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


def affine(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x * 2.0 + 1)


def sign(function: Callable[..., Any] = affine, spec: Spec = ((4, 6), (6, 1), torch.float32), **given: Any) -> Any:
    chosen = {"role": "inference", "platform": "cpu", "options": Options(), "donates": False, "frame": Frame()}
    return signature.signature(trace(function, [spec]), {}, **(chosen | given))


def test_equal_graphs_have_equal_keys():
    def another(renamed: torch.Tensor) -> torch.Tensor:
        scaled = renamed * 2.0

        return torch.relu(scaled + 1)

    assert sign().key == sign().key == sign(another).key


FUNCTIONS = {
    "operator": lambda x: torch.sigmoid(x * 2.0 + 1),
    "scalar": lambda x: torch.relu(x * 2.5 + 1),
    "kind-of-scalar": lambda x: torch.relu(x * 2 + 1),
    "negative-zero": lambda x: torch.relu(x * 2.0 + 1 + -0.0),
    "another-output": lambda x: (torch.relu(x * 2.0 + 1), x),
    "constant": lambda x: torch.relu(x * 2.0 + 1) + torch.arange(6),
    "constant-tensor": lambda x: torch.relu(x * 2.0 + 1) + torch.tensor([1.0, 2, 3, 4, 5, 6]),
    "other-constant-tensor": lambda x: torch.relu(x * 2.0 + 1) + torch.tensor([1.0, 2, 3, 4, 5, 7]),
}


def test_every_change_of_the_graph_changes_the_key():
    keys = [sign().key, *(sign(function).key for function in FUNCTIONS.values())]
    assert len(set(keys)) == len(keys)


SPECS: dict[str, Spec] = {
    "size": ((4, 7), (7, 1), torch.float32),
    "stride": ((4, 6), (1, 4), torch.float32),
    "gaps": ((4, 6), (12, 2), torch.float32),
    "rank": ((4, 6, 1), (6, 1, 1), torch.float32),
    "dtype": ((4, 6), (6, 1), torch.float64),
    "narrow-dtype": ((4, 6), (6, 1), torch.bfloat16),
}


def test_every_property_of_an_input_changes_the_key():
    keys = [sign().key, *(sign(spec=spec).key for spec in SPECS.values())]
    assert len(set(keys)) == len(keys)


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def matmul_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CONTEXTS = {
    "default-dtype": default_dtype,
    "matmul-precision": matmul_precision,
    "deterministic": deterministic,
    "jax-matmul-precision": lambda: jax.default_matmul_precision("float32"),
    "jax-rank-promotion": lambda: jax.numpy_rank_promotion("raise"),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_setting_that_lowering_reads_changes_the_key(context):
    plain = sign().key
    with CONTEXTS[context]():
        assert sign().key != plain
    assert sign().key == plain


GIVEN = {
    "platform": {"platform": "tpu"},
    "donates": {"donates": True},
    "handed out": {"handed_out": 1},
    "replicas": {"replicas": 2},
    "partitioner": {"options": Options(partitioner="default")},
    "activation-memory-budget": {"options": Options(activation_memory_budget=0.5)},
    "attention": {"options": Options(attention="plain")},
}


def test_every_keyed_option_and_target_changes_the_key():
    keys = [sign().key, *(sign(**given).key for given in GIVEN.values())]
    assert len(set(keys)) == len(keys)
    named = {
        name for given in GIVEN.values() if "options" in given for name in signature.keyed_options(given["options"])
    }
    assert named == {"partitioner", "activation_memory_budget", "attention"}, "a new keyed option wants a case above"


@pytest.mark.parametrize("package", ["torch", "torch-mlir", "jax", "jaxlib", "numpy", "tpu-dynamo", "python"])
def test_every_version_changes_the_key(monkeypatch, package):
    plain = sign().key
    before = signature.versions()
    monkeypatch.setattr(signature, "versions", lambda: {**before, package: "0.0.1"})
    assert sign().key != plain


def test_options_and_names_that_change_no_program_change_no_key():
    told = Frame(("L['x']",), ("TENSOR_MATCH L['x']",), ("2 <= L['x'].size()[0] <= 8",))
    options = Options(fallback="eager", dump_dir=Path("d"), transfer="copy", max_executables=1, cache="read_only")
    assert sign(frame=told, options=options, role="forward").key == sign().key


def test_a_lowering_of_somebody_else_has_no_signature(monkeypatch):
    operator = torch.ops.aten.relu.default

    def theirs(self: Any) -> Any:
        return self

    entry = table.Lowering(operator, table.How.KERNEL, "", theirs)
    monkeypatch.setitem(TABLE, operator, entry)
    with pytest.raises(NoStableKey, match=r"relu.*test_signature"):
        sign()


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=2),
    transposed=st.lists(st.booleans(), min_size=2, max_size=2),
    dtypes=st.lists(st.sampled_from([torch.float32, torch.float64, torch.int32]), min_size=2, max_size=2),
    scalars=st.lists(st.sampled_from([1, 2, 1.0, -0.0, 0.0]), min_size=2, max_size=2),
)
def test_equal_keys_mean_equal_programs(shapes, transposed, dtypes, scalars):
    found = []
    for shape, swap, dtype, scalar in zip(shapes, transposed, dtypes, scalars, strict=True):
        stride = (1, shape[0]) if swap else (shape[1], 1)
        graph = trace(lambda x, scalar=scalar: torch.relu(x * scalar), [(shape, stride, dtype)])
        parts = signature.signature(
            graph, {}, role="inference", platform="cpu", options=Options(), donates=False, frame=Frame()
        )
        program = lower(graph, {}, platform="cpu")
        found.append((parts.key, program.digest, program.arguments, program.results, program.outputs))
    if found[0][0] == found[1][0]:
        assert found[0] == found[1]
    else:
        assert (shapes[0], transposed[0], dtypes[0], repr(scalars[0])) != (
            shapes[1], transposed[1], dtypes[1], repr(scalars[1])
        )  # fmt: skip


SCRIPT = """
import json, torch, tpu_dynamo
from tpu_dynamo.cache import programs
keys = []
keep = programs.keep
programs.keep = lambda store, signature, program: (keys.append(signature.key), keep(store, signature, program))
{imports}
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.{layer} = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.full((3,), 2.0))
    def forward(self, {x}, {n}):
        if {x}.shape[0] > 1:
            return torch.nn.functional.dropout(self.{layer}({x}) * self.scale * {n}, 0.5)
model = torch.compile(Model(), backend="tpu", dynamic=True)
model(torch.ones(5, 4), 3).sum().backward()
print(json.dumps(keys))
"""


def keys_of(folder: Path, seed: str, **names: str) -> list[str]:
    folder.mkdir()
    file = folder / f"{names['x']}.py"
    file.write_text(SCRIPT.format(**names))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TPU_DYNAMO_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, file], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_other_names_lines_folders_and_hash_seeds_leave_the_keys_alone(tmp_path):
    first = keys_of(tmp_path / "one", "1", layer="layer", x="x", n="n", imports="")
    second = keys_of(
        tmp_path / "two", "2", layer="a_linear_one", x="batch", n="factor", imports="import random, re\n\n\n"
    )
    assert first == second
    assert len(first) == 2
