"""Takes the screens of docs/cli.md: verbs run in a terminal of 100 columns, on the cache that a few models have filled.

    python -m tests.cli.screens [NAME ...]

Needs tmux. Look at them (`--colours` shows them as they are), then `python -m tests.cli.page`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

SCREENS = Path(__file__).with_name("screens")
# What is typed; {bert} is the beginning of the key of a program.
COMMANDS = {
    "cache-ls": "tpu-dynamo cache ls",
    "cache-info": "tpu-dynamo cache info {bert}",
    "cache-explain": "tpu-dynamo cache explain {bert} {longer}",
    "doctor": "tpu-dynamo doctor",
}
_COLUMNS, _LINES = 100, 70
_MODELS = """
import torch
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel
import tpu_dynamo

bert = torch.compile(BertModel(BertConfig(num_hidden_layers=2, hidden_size=256, num_attention_heads=4)).eval(), backend="tpu", dynamic=False)
resnet = torch.compile(ResNetModel(ResNetConfig(depths=[1, 1, 1, 1])).eval(), backend="tpu")
with torch.no_grad():
    bert(torch.ones(8, 128, dtype=torch.int64))
    bert(torch.ones(8, 256, dtype=torch.int64))
    resnet(torch.ones(4, 3, 64, 64))

model = torch.nn.Linear(16, 4)
optimizer = torch.optim.AdamW(model.parameters())

def classify(images, labels):
    return torch.nn.functional.cross_entropy(model(images), labels)

loss = torch.compile(classify, backend="tpu")(torch.ones(32, 16), torch.zeros(32, dtype=torch.int64))
loss.backward()
"""


def main() -> None:
    """Take the screens that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(COMMANDS))
    parser.add_argument("--colours", action="store_true", help="print them with their colours too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-screens-") as home:
        os.environ |= {"HOME": home, "TERM": "xterm-256color"}
        os.environ.pop("TPU_DYNAMO_CACHE_DIR", None)
        os.environ.pop("XDG_CACHE_HOME", None)
        Path(home, ".cache").mkdir()
        subprocess.run([sys.executable, "-c", _MODELS], check=True)
        keys = {"bert": _key("BertModel(8x128)"), "longer": _key("BertModel(8x256)")}
        for name in arguments.names:
            command = COMMANDS[name].format(**keys)
            text, coloured = taken(command)
            SCREENS.joinpath(f"{name}.txt").write_text(f"$ {command}\n{text}", encoding="utf-8")
            if arguments.colours:
                print(coloured)


def taken(command: str) -> tuple[str, str]:
    """Return the screen of a terminal after a command, without and with colours."""
    socket = f"tpu-dynamo-{uuid.uuid4().hex[:8]}"
    tmux = ["tmux", "-L", socket]
    shell = f"{command}; tmux -L {socket} wait-for -S done; sleep 600"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", str(_COLUMNS), "-y", str(_LINES), "bash", "-c", shell], check=True
    )
    try:
        subprocess.run([*tmux, "wait-for", "done"], check=True, timeout=600)
        shown = [
            subprocess.run([*tmux, "capture-pane", "-p", *form], check=True, capture_output=True, text=True).stdout
            for form in ([], ["-e"])
        ]
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    plain = "\n".join(line.rstrip() for line in shown[0].rstrip().splitlines()) + "\n"
    return plain, shown[1].rstrip()


def _key(graph: str) -> str:
    """The beginning of the key of the first program whose graph has this in its name."""
    listing = ["cache", "ls", "--quiet", "--kind", "program", "--graph", graph]
    done = subprocess.run(["tpu-dynamo", *listing], check=True, capture_output=True, text=True)
    return done.stdout.split()[0][:12]


if __name__ == "__main__":
    main()
