"""Takes the README's pictures: the report of an example, and what a model costs on a v5e, in light and dark.

    python -m tests.docs.pictures

Needs Chromium and libtpu. The report is the page that `report.save` writes; costs are what `tpu-dynamo cost` prints on a terminal.
"""

from __future__ import annotations

import io
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text

from .pages import ROOT

FOLDER = ROOT / "docs" / "pictures"
_COLUMNS = 104
_THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": DIMMED_MONOKAI}
_PAPER = {"light": "#ffffff", "dark": "#0d1117"}
_INK = {"light": "#1f2328", "dark": "#e6edf3"}
_MODEL = """\
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = self.mix(self.norm(x)).unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm(x))))


def block(width=1024):
    return Block(width).to(torch.bfloat16).eval(), (torch.empty(4, 1024, width, dtype=torch.bfloat16),)
"""


def main() -> None:
    """Take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        report = Path(folder, "report.html")
        script = ["examples/graph_breaks.py", "--html", str(report)]
        subprocess.run([sys.executable, *script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        Path(folder, "models.py").write_text(_MODEL, encoding="utf-8")
        screen = _terminal(
            ["tpu-dynamo", "cost", "models:block", "--target", "v5e:2x2", "--top", "6", "--no-progress"], folder
        )
        for scheme in _THEMES:
            _take(browser, report.as_uri(), scheme, FOLDER / f"report_{scheme}.webp", (1000, 640))
            page = Path(folder, f"cost_{scheme}.html")
            page.write_text(_page(screen, scheme), encoding="utf-8")
            _take(browser, page.as_uri(), scheme, FOLDER / f"cost_{scheme}.webp", None)
        browser.close()


def _take(browser: Browser, url: str, scheme: str, file: Path, size: tuple[int, int] | None) -> None:
    """Write a picture of a page: of its upper part, or of what its first element has."""
    width, height = size or (1000, 800)
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.5)
    page.goto(url)
    shot = page.screenshot() if size else page.locator("pre").screenshot()
    Image.open(io.BytesIO(shot)).convert("RGB").save(file, lossless=True, method=6)
    page.close()


def _page(screen: str, scheme: str) -> str:
    """Return what a terminal showed as a page."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    style = f"background:{_PAPER[scheme]};color:{_INK[scheme]};padding:16px;margin:0;font:13px/1.35 Menlo,'DejaVu Sans Mono',monospace"
    body = console.export_html(theme=_THEMES[scheme], inline_styles=True, code_format="{code}")
    return f'<!doctype html><meta charset="utf-8"><body style="margin:0"><pre style="{style}">{body}</pre>'


def _terminal(command: list[str], folder: str) -> str:
    """Return what a command writes to a terminal, with its colours, below the line that was typed."""
    parent, child = pty.openpty()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=child, stderr=subprocess.DEVNULL, cwd=folder, env=variables):
        os.close(child)
        told = b""
        while True:
            try:
                told += os.read(parent, 65536)
            except OSError:  # the command has ended, and with it the terminal
                break
    os.close(parent)
    return f"$ {' '.join(command[:-1])}\n{told.decode().replace(chr(13), '')}".replace(folder + "/", "")


if __name__ == "__main__":
    main()
