"""Compiling for a topology: what comes out, what is refused, and that the process keeps no trace of it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tpu_dynamo_runtime import (
    CompileError,
    DoesNotFit,
    PlatformUnavailable,
    cost_of,
    find_topology,
    open_compiler,
    plugin_installed,
    targets,
    topology_compiler,
)
from tpu_dynamo_runtime.chips import CHIPS
from tpu_dynamo_runtime.compilation import bytes_needed

from .programs import bytecode, product

needs_libtpu = pytest.mark.skipif(
    not plugin_installed("tpu"), reason="libtpu is not installed: pip install 'tpu-dynamo[tpu]'"
)
SMALLEST = {name: f"{name}:2x2" if chip.dimensions == 2 else f"{name}:2x2x1" for name, chip in CHIPS.items()}


@pytest.fixture(scope="module")
def v5e():
    with open_compiler("v5e:2x2") as compiler:
        yield compiler


@needs_libtpu
@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_compiles_and_has_the_memory_of_our_table(chip):
    with open_compiler(SMALLEST[chip]) as compiler:
        compiled = compiler.compile(product(512))
        with pytest.raises(DoesNotFit) as caught:
            compiler.compile(product(200 * 2**30 // 512))
    assert compiler.platform == "tpu"
    assert compiled.executable
    assert compiled.flops >= 2 * 512 * 256 * 256
    assert compiled.memory.fits
    assert compiled.memory.arguments >= (512 + 256) * 256 * 2
    # libtpu says it in GiB with two decimals.
    assert f"({caught.value.available / 2**30:.2f}G)" in caught.value.why
    assert caught.value.needed > 200 * 2**30


@needs_libtpu
def test_cycles_and_bytes_belong_to_the_lines_of_the_locations(v5e):
    cost = cost_of(v5e.compile(product(512)).hlo, 0)
    assert cost.cycles
    assert {(row.file, row.line) for row in cost.by_line()} <= {("/model.py", 7), ("/model.py", 8)}
    assert sum(row.cycles for row in cost.by_line()) == cost.cycles
    assert sum(row.bytes_accessed for row in cost.by_line()) == cost.bytes_accessed
    assert cost.bytes_accessed == (512 + 256 + 512) * 256 * 2


@needs_libtpu
def test_a_refused_program_does_not_end_the_compiler(v5e):
    with pytest.raises(CompileError, match="nowhere"):
        v5e.compile(
            bytecode("""
        func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
          %y = stablehlo.custom_call @nowhere(%x) : (tensor<4xf32>) -> tensor<4xf32>
          return %y : tensor<4xf32>
        }""")
        )
    with pytest.raises(CompileError, match="custom op 'junk' is unknown"):
        v5e.compile(b"junk")
    assert v5e.compile(product(8)).executable


def traces() -> dict[str, object]:
    """Return what libtpu changes in a process that loads it."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "environment": dict(os.environ),
        "C environment": {name: libc.getenv(name) for name in (b"TPU_WORKER_ID", b"TPU_PREMAPPED_BUFFER_SIZE")},
        "signals": [line for line in status if line.startswith(("SigCgt", "SigIgn", "VmLck"))],
        "python signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
        "threads": threading.active_count(),
        "loaded": "libtpu.so" in Path("/proc/self/maps").read_text(),
        "files": sorted(os.listdir("/proc/self/fd")),
    }


@needs_libtpu
def test_the_process_keeps_no_trace(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = traces()
    with open_compiler("v6e:2x2") as compiler:
        compiler.compile(product(8))
    assert traces() == before
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@needs_libtpu
def test_what_libtpu_says_goes_to_the_debug_log():
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    log = topology_compiler.log
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.DEBUG)
    files = set(Path("/tmp/tpu_logs").glob("*"))
    try:
        with open_compiler("v5e:2x2") as compiler:
            compiler.compile(product(8))
            first = len(records)
            compiler.compile(product(16))
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
    assert any("XLA::TPU" in record.getMessage() for record in records[:first])
    assert any("XLA::TPU" in record.getMessage() for record in records[first:])
    assert {record.levelno for record in records} == {logging.DEBUG}
    assert sum("Process id" in record.getMessage() for record in records) == 1
    assert set(Path("/tmp/tpu_logs").glob("*")) == files


@needs_libtpu
def test_several_compile_at_once():
    with open_compiler("v5e:2x2") as one, open_compiler("v5e:2x2") as other:
        assert one.compile(product(8)).hlo == other.compile(product(8)).hlo


@needs_libtpu
def test_a_compiler_that_dies_is_an_error_with_its_last_words():
    with open_compiler("v5e:2x2") as compiler:
        compiler.compile(product(8))
        os.kill(compiler._process.pid, signal.SIGSEGV)
        with pytest.raises(CompileError, match="the compiler's process ended with exit status"):
            compiler.compile(product(8))


@needs_libtpu
def test_the_compiler_ends_with_whoever_started_it():
    script = (
        "import os, signal\n"
        "from tpu_dynamo_runtime import open_compiler\n"
        "with open_compiler('v5e:2x2') as compiler:\n"
        "    compiler._wait_until_ready()\n"
        # As good as in the middle of a long compile: it hears nothing from its connection.
        "    os.kill(compiler._process.pid, signal.SIGSTOP)\n"
        "    print(compiler._process.pid, flush=True)\n"
        "    input()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        compiler = int(starter.stdout.readline())
        ended = os.pidfd_open(compiler)
        starter.kill()
    try:
        assert select.select([ended], [], [], 300)[0]  # at once, when its starter has ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)


def test_a_missing_libtpu_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(targets, "plugin_installed", lambda platform: False)
    with pytest.raises(PlatformUnavailable, match=r"not installed\n.*tpu-dynamo\[tpu\]"), open_compiler("v5e:2x2"):
        pass


def test_the_variables_of_this_machines_tpu_do_not_reach_the_compiler(monkeypatch):
    monkeypatch.setenv("TPU_PROCESS_BOUNDS", "2,2,1")
    monkeypatch.setenv("TPU_LIBRARY_PATH", "/somewhere/libtpu.so")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_spmd_rng_bit_generator_unsafe=true")
    topology = find_topology("v4:2x2x1")
    assert topology is not None
    made = topology_compiler._environment(topology, "/tmp/x", talkative=False)
    assert "TPU_PROCESS_BOUNDS" not in made
    assert made["TPU_LIBRARY_PATH"] == "/somewhere/libtpu.so"
    assert made["LIBTPU_INIT_ARGS"] == "--xla_tpu_spmd_rng_bit_generator_unsafe=true"
    assert made["TPU_ACCELERATOR_TYPE"] == "v4-8"


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO temporaries (17.17G) exceeds available HBM (15.75G). HLO module: main.",
            int(17.17 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.00M of 15.75G hbm. Exceeded hbm capacity by 1K.",
            512 * 2**20,
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 140.1M of 128.0M vmem.", None),
        ("INVALID_ARGUMENT: no", None),
    ],
)
def test_too_large_is_told_from_other_refusals(message, needed):
    assert bytes_needed(message) == needed
