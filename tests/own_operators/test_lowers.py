"""Lowerings for operators of other libraries: in PyTorch, in JAX, from an entry point, and in keys of the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import jax.numpy as jnp
import pytest
import torch
from torch import Tensor

import tpu_dynamo

LIBRARY = torch.library.Library("own_tests_library", "DEF")


def define(name: str, schema: str, function) -> torch._ops.OpOverload:
    LIBRARY.define(name + schema)
    LIBRARY.impl(name, function, "CPU")
    torch.library.register_fake(f"own_tests_library::{name}", lambda x, *_: torch.empty_like(x), lib=LIBRARY)
    return getattr(torch.ops.own_tests_library, name).default


twice = define("twice", "(Tensor x, int by=2) -> Tensor", lambda x, by=2: x * by)
thrice = define("thrice", "(Tensor x) -> Tensor", lambda x: x * 3)


@tpu_dynamo.lowers(twice)
def lower_twice(x: Tensor, by: int = 2) -> Tensor:
    """Multiply by a number."""
    return x * by if by > 1 else thrice(x)


@tpu_dynamo.lowers(thrice, language="jax")
def lower_thrice(x):
    return jnp.multiply(x, 3)


torch.library.register_autograd("own_tests_library::twice", lambda ctx, g: (thrice(g), None), lib=LIBRARY)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_an_operator_is_lowered_with_its_own_gradient(device):
    x = torch.randn(3, device=device, requires_grad=True)
    compiled = torch.compile(lambda x: twice(x.sin()) + twice(x, 1), backend="tpu", fullgraph=True)
    found = compiled(x)
    torch.testing.assert_close(found, x.sin() * 2 + x * 3)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], 3 * x.cos() + 3)
    assert not tpu_dynamo.stats().fallbacks
    if device == "tpu":
        assert twice(x.detach()).device.type == "tpu" and not tpu_dynamo.stats().fallbacks


@pytest.mark.parametrize(
    ("overload", "function", "words"),
    [
        pytest.param(torch.ops.aten.sin.default, lambda self: self, "PyTorch's own operator", id="aten"),
        pytest.param(torch.ops.own_tests_library.twice, lambda x: x, "is of an overload", id="packet"),
        pytest.param(twice, lambda x, by=2: x, "has a lowering already: .*lower_twice", id="second"),
        pytest.param(thrice, lambda y: y, "is not spelt as the schema", id="other-names"),
    ],
)
def test_a_lowering_that_could_not_be_right_is_refused(overload, function, words):
    with pytest.raises(TypeError, match=words):
        tpu_dynamo.lowers(overload)(function)


LIBRARY_CODE = """
    import torch
    @torch.library.custom_op("shipped::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor: return torch.from_numpy(x.detach().numpy() * 2)
    double.register_fake(torch.empty_like)
"""
LOWERING_CODE = """
    import tpu_dynamo, torch, shipped
    FACTOR = {factor}
    @tpu_dynamo.lowers(torch.ops.shipped.double.default)
    def lower_double(x): return x * FACTOR
"""
PROGRAM = """
    import sys, shipped, torch, tpu_dynamo
    print(torch.compile(lambda x: shipped.double(x) + 1, backend="tpu", fullgraph=True)(torch.ones(1)).item())
    print(tpu_dynamo.stats().lowerings)
"""


def installed(folder, factor, entry_points):
    metadata = folder / "shipped-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shipped\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tpu_dynamo.lowerings]\n" + "\n".join(entry_points))
    (folder / "shipped.py").write_text(textwrap.dedent(LIBRARY_CODE))
    (folder / "shipped_tpu.py").write_text(textwrap.dedent(LOWERING_CODE.format(factor=factor)))
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, "-W", "ignore", str(folder / "program.py")]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(line) for line in done.stdout.split()], done.stderr


@pytest.mark.slow  # processes
def test_a_library_ships_lowerings_by_entry_point_and_a_changed_one_is_a_miss(tmp_path):
    entries = ["bad = no_such_module", "good = shipped_tpu"]
    found, words = installed(tmp_path, 2, entries)
    assert found == [3, 1]
    assert "the entry point bad = no_such_module of shipped" in words
    assert installed(tmp_path, 2, entries)[0] == [3, 0]
    assert installed(tmp_path, 4, entries)[0] == [5, 1]


def test_a_digest_that_is_not_there_is_said_and_nothing_is_kept():
    opened = define("opened", "(Tensor x) -> Tensor", lambda x: x)
    lock = threading.Lock()

    @tpu_dynamo.lowers(opened)
    def lower_opened(x: Tensor) -> Tensor:
        return x + 1 if lock is not None else x

    compiled = torch.compile(lambda x: opened(x) * 2, backend="tpu", fullgraph=True)
    torch.testing.assert_close(compiled(torch.ones(2)), torch.full((2,), 4.0))
    assert "opened.default, which is registered from outside" in str(tpu_dynamo.explain_last_miss())
