"""Counting that leaves nothing out: libtpu's own attention, kernels with and without an estimate of their authors'."""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys

import pytest

from tpu_dynamo_runtime import Compilation, DoesNotFit, ProgramMemory, cost_of, count, form_to_count, open_compiler
from tpu_dynamo_runtime.chips import CHIPS

from .test_topology_compiler import SMALLEST, needs_libtpu

KERNEL = "custom-call tpu_custom_call"


@functools.cache
def programs() -> dict[str, bytes]:
    """The programs of `counted_programs.py`: tracing in JAX loads libtpu where it may, so a process of its own does it."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.counted_programs"], env=environment, capture_output=True, check=True
    )
    return {name: base64.b64decode(text) for name, text in json.loads(done.stdout).items()}


def program(name: str) -> bytes:
    return programs()[name]


@pytest.fixture(scope="module")
def v5e():
    with open_compiler("v5e:2x2") as compiler:
        yield compiler


def cost_with(compiler, name):
    compiled = compiler.compile(program(name))
    return count(compiled, form_to_count(compiler, program(name), compiled))


@needs_libtpu
def test_attention_that_libtpu_fuses_is_counted_as_its_operations(v5e):
    compiled = v5e.compile(program("attention"))
    alone = cost_of(compiled.hlo, compiled.flops, compiled.chip)
    assert alone.kernels[KERNEL]  # else there is nothing to count otherwise
    cost = cost_with(v5e, "attention")
    assert cost.replaced == {KERNEL: 1}
    assert KERNEL not in cost.unestimated
    assert not cost.kernels
    assert cost.cycles > alone.cycles
    plain = v5e.compile(program("attention"), (("xla_tpu_enable_flash_attention", "false"),))
    assert cost.cycles == cost_of(plain.hlo, 0).cycles


@needs_libtpu
def test_a_flag_of_the_users_does_not_keep_attention_from_being_counted(v5e):
    flags = (("xla_tpu_enable_flash_attention", "true"),)
    compiled = v5e.compile(program("attention"), flags)
    assert KERNEL not in count(compiled, form_to_count(v5e, program("attention"), compiled, flags)).unestimated


@needs_libtpu
def test_a_kernel_counts_by_the_estimate_that_it_carries(v5e):
    cost = cost_with(v5e, "estimated kernel")
    expected = round(10**9 / CHIPS["v5e"].flops_per_cycle)
    assert cost.kernels == {KERNEL: expected}
    assert cost.cycles >= expected
    assert sum(row.cycles for row in cost.by_line()) == cost.cycles
    assert (cost.unestimated, cost.replaced) == ({}, {})


@needs_libtpu
def test_a_kernel_without_an_estimate_is_named(v5e):
    cost = cost_with(v5e, "kernel")
    assert (cost.unestimated, cost.kernels, cost.replaced) == ({KERNEL: 1}, {}, {})


def test_what_does_not_fit_without_the_kernel_is_counted_with_it():
    hlo = (
        "ENTRY %main (x: f32[8]) -> f32[8] {\n  %x = f32[8]{0} parameter(0)\n"
        '  ROOT %y = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call", '
        'backend_config={"custom_call_config":{}}\n}\n'
    )
    compiled = Compilation(b"", hlo, ProgramMemory(0, 0, 0, 0, 0, 0), 0, CHIPS["v5e"])

    class Full:
        platform = "tpu"

        def compile(self, stablehlo, flags=(), span=()):
            raise DoesNotFit("v5e:2x2", 2**40, 2**34, "")

    assert form_to_count(Full(), b"", compiled) is None


@needs_libtpu
@pytest.mark.parametrize("chip", CHIPS)
def test_what_a_chip_does_in_a_cycle_is_what_libtpu_estimates(chip):
    size = 8192
    known = CHIPS[chip]
    with open_compiler(SMALLEST[chip]) as compiler:
        cycles = {name: cost_with(compiler, name).cycles for name in ("product", "copy", "exponentials")}
    assert 2 * size**3 / cycles["product"] == pytest.approx(known.flops_per_cycle, rel=0.05)
    assert 2 * size * 2 * size * 4 / cycles["copy"] == pytest.approx(known.bytes_per_cycle, rel=0.05)
    assert 64 * 4096**2 / cycles["exponentials"] == pytest.approx(known.transcendentals_per_cycle, rel=0.06)
