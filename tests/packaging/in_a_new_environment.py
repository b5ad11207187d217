"""Builds the wheel, installs it alone into a new environment, and does there what a user does first.

    python -m tests.packaging.in_a_new_environment

Nothing of the checkout is on the path, HOME is empty, and the working directory is a new one: what is missing in the
wheel, or was found by chance, ends the run with the command that failed. Prints each command with its seconds.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .requirements import ROOT

_FIRST = """
import torch

model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4)).eval()
compiled = torch.compile(model, backend="tpu")
x = torch.randn(8, 16)
with torch.no_grad():
    torch.testing.assert_close(compiled(x), model(x))
print("equal to eager")
"""

_MODELS = """
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4)).eval(), (torch.ones(8, 16),)
"""

_COMMANDS = [
    "{bin}/pip install -q 'torch~=2.13.0'",
    "{bin}/pip install -q '{wheel}[tpu,examples]'",
    "{bin}/pip check",
    "{bin}/python first.py",
    "{bin}/python {root}/examples/digits.py",
    "{bin}/tpu-dynamo doctor",
    "{bin}/tpu-dynamo report -- {bin}/python {root}/examples/graph_breaks.py",
    "{bin}/tpu-dynamo warmup models:make --target v5e:2x2",
    "{bin}/tpu-dynamo warmup models:make --target v5e:2x2 --check",
]


def main() -> None:
    """Do it all in a temporary folder; exit with the first command that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, work = folder / "home", folder / "work"
        home.mkdir()
        work.mkdir()
        (work / "first.py").write_text(_FIRST, encoding="utf-8")
        (work / "models.py").write_text(_MODELS, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "build", "-q", "--outdir", folder / "dist", ROOT], check=True)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TPU_", "TORCH", "JAX", "XLA"))}
        variables |= {"HOME": str(home), "NO_COLOR": "1"}
        names = {"bin": folder / "venv" / "bin", "wheel": next((folder / "dist").glob("*.whl")), "root": ROOT}
        for command in _COMMANDS:
            started = time.monotonic()
            words = shlex.split(command.format(**names))
            done = subprocess.run(words, cwd=work, env=variables, check=False)
            print(f"{time.monotonic() - started:6.0f} s  {command}", flush=True)
            # The doctor and the report exit with 1 where they have something to say.
            if done.returncode not in ((0, 1) if "doctor" in command or "report" in command else (0,)):
                sys.exit(f"exit status {done.returncode}: {command}")


if __name__ == "__main__":
    main()
