"""Behaviour that only a fresh process shows: imports of the command line, its end, and when the device is registered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .stores import filled, key

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
# The script that an installer writes for the entry point.
SCRIPT = "from {} import {} as main; main()".format(*PROJECT["project"]["scripts"]["tpu-dynamo"].split(":"))

# What takes longer to import than a person waits. (typer itself imports pydantic where a verb has options.)
HEAVY = {"torch", "jax", "jaxlib", "numpy", "torch_mlir"}


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,  # it takes 2 s on an idle machine; only a hang takes this long
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["explain", "TPU501"],
        ["cache", "ls"],
        ["cache", "verify"],
        ["cache", "info", key("bert")],
        ["cache", "rm", "--dry-run", key("bert")],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_needs_no_torch_does_not_import_it(arguments, tmp_path):
    filled(tmp_path)
    done = start("-X", "importtime", "-c", SCRIPT, *arguments, TPU_DYNAMO_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "tpu_dynamo.cli" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("program", ["train.py", "tpu-dynamo"])
def test_elsewhere_importing_the_package_registers_the_device_whatever_the_program_is_called(program):
    code = "import tpu_dynamo, torch; print(torch.zeros(2, device='tpu').device, torch.device('tpu'))"
    done = start("-c", f"import sys; sys.argv = [{program!r}]; {code}")
    assert done.stdout == "tpu:0 tpu\n", done.stderr


def test_a_reader_that_has_enough_ends_the_command_line_quietly():
    code = (
        "import sys, tpu_dynamo_cli; sys.argv = ['tpu-dynamo', 'talk']; from tpu_dynamo.cli import app, main\n"
        "app.command('talk')(lambda: [print('x' * 99) for _ in range(9999)]); main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_reader_that_is_gone_before_the_last_words_ends_it_quietly_too():
    code = (
        "import sys, tpu_dynamo_cli; sys.argv = ['tpu-dynamo', 'talk']; from tpu_dynamo.cli import app, main\n"
        "app.command('talk')(lambda: [sys.stdin.readline(), print('x')]); main()"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], env=buffered, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_ctrl_c_is_130():
    code = (
        # Where these tests are a shell's background job, SIGINT is ignored, and its children inherit that.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, threading, tpu_dynamo_cli; sys.argv = ['tpu-dynamo', 'wait']; from tpu_dynamo.cli import app, main\n"
        "def wait():\n    print('ready', flush=True)\n    threading.Event().wait()\n"
        "app.command()(wait); main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "tpu-dynamo: interrupted\n"
    assert process.returncode == 130
