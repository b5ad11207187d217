"""Draws docs/one_graph.md: the forms that one small graph really has on its way, as text and as a picture.

    python -m tests.docs.one_graph

The picture is made twice, for light and for dark pages.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import Environment
from torch import Tensor, nn
from torch.nn import functional as F

from .pages import ROOT

PAGE = ROOT / "docs" / "one_graph.md"
BEGIN, END = "<!-- forms: python -m tests.docs.one_graph -->", "<!-- end of the forms -->"
THEMES = {
    "light": {"page": "#ffffff", "box": "#f6f8fa", "line": "#8c959f", "ink": "#1f2328", "muted": "#59636e", "mark": "#0b6e6e"},
    "dark": {"page": "#0d1117", "box": "#161b22", "line": "#656c76", "ink": "#e6edf3", "muted": "#9198a1", "mark": "#56d4c4"},
}  # fmt: skip


class Classifier(nn.Module):
    """The model of the page: a product, an activation that comes apart in expand, and an operator that has a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return [2, 4] of [2, 8]."""
        return F.hardswish(self.linear(x)).cumsum(-1)


@dataclass(frozen=True)
class Room:
    """A stage: what it is called, where it is, what it does, and the graph as it leaves it."""

    name: str
    where: str
    says: str
    form: str
    language: str = "py"


def rooms() -> list[Room]:
    """Compile the model and return the stages that its graph went through, with the forms that were dumped."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder:
        model = torch.compile(Classifier().eval(), backend="tpu", options={"dump_dir": folder})
        with torch.no_grad():
            model(torch.ones(2, 8))
        (graph,) = Path(folder).iterdir()
        dumped = {path.name: path.read_text(encoding="utf-8") for path in graph.iterdir()}
    torch.compiler.reset()
    return [
        Room("your line", "one_graph.py", "what you wrote", "return F.hardswish(self.linear(x)).cumsum(-1)"),
        Room("Dynamo", "torch", "captures the call, and guards what it read", _fx(dumped["dynamo.fx.py"])),
        Room("AOTAutograd", "_torch_compat/", "makes it functional ATen: inference here", _fx(dumped["aot.fx.py"])),
        Room("expand", "expand.py, rewrites/", "rewrites, until only leaves are left", _fx(dumped["rewritten.fx.py"])),
        Room("torch dialect", "mlir.py", "torch-mlir reads the leaves; calls stand for kernels",
             _main(_mlir(dumped["torch.mlir"])), "mlir"),
        Room("StableHLO", "kernels/, link.py", "torch-mlir's part with the kernels of JAX linked in",
             _main(_mlir(dumped["stablehlo.mlir"])), "mlir"),
        Room("HLO", "pjrt.py", "XLA fuses and schedules; the names are your lines", _hlo(dumped["optimised.hlo"]), "text"),
        Room("call", "shared.py", "at each call: arguments in, execute, results out",
             "arguments and buffers share memory; 1 execution", "text"),
    ]  # fmt: skip


def _fx(text: str) -> str:
    """Return a graph's operations, without the lines that pass inputs on, types of strides, and the end of lifetimes."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if re.match(r"(\w+: |return )", line)]
    short = [re.sub(r";.*", "", re.sub(r"\[[\d, ]*\]cpu\"", '"', line)) for line in kept]
    text = re.sub(r"l_self_modules_linear_parameters_(\w+?)_\b", r"\1", "\n".join(short))
    return text.replace("l_x_", "x").replace("torch.ops.", "")


def _mlir(text: str) -> str:
    """Return MLIR without its locations."""
    without = re.sub(r"\s*loc\((?:[^()]|\([^()]*\))*\)", "", text)
    typed = re.sub(r"!torch\.vtensor<\[([\d,]+)\],(\w+)>", r"vtensor<[\1],\2>", without)
    return "\n".join(line for line in typed.splitlines() if line.strip() and not line.startswith("#loc"))


def _main(text: str) -> str:
    """Return the operations of @main."""
    body = re.search(r"func\.func @main\(.*?\{\n(.*?)\n  \}", text, re.DOTALL)
    assert body
    return _dedented(body[1])


def _hlo(text: str) -> str:
    """Return the operations that XLA runs, by their names in the user's code."""
    entry = text[text.index("ENTRY") :]
    operations = re.findall(r"%([\w.-]+) = (\S+) (\w[\w-]*)\(.*?op_name=\"[^\"]*?([\w.]+:\d+/[\w.]+)", entry)
    return "\n".join(f"{kind:<12} {shape.partition('{')[0]:<10} {line}" for _, shape, kind, line in operations)


def _dedented(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[indent:] for line in lines)


def forms(found: list[Room]) -> str:
    """Return the stages as text."""
    parts = [f"**{r.name}** (`{r.where}`): {r.says}.\n\n```{r.language}\n{r.form}\n```\n" for r in found]
    return "\n".join(parts)


_SVG = Environment(autoescape=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {{ height }}" font-family="ui-monospace, Menlo, Consolas, monospace">
<title>One graph on its way from a line of Python to what runs</title>
<rect width="880" height="{{ height }}" fill="{{ page }}"/>
{% for box in boxes %}\
{% if not loop.first %}<path d="M110 {{ box.y - 22 }}v16m-5 -6l5 6l5 -6" stroke="{{ line }}" stroke-width="1.5" fill="none"/>
{% endif %}\
<rect x="1" y="{{ box.y }}" width="878" height="{{ box.height }}" rx="6" fill="{{ box_fill }}" stroke="{{ line }}"/>
<text x="16" y="{{ box.y + 24 }}" font-size="15" font-weight="700" fill="{{ mark }}">{{ box.name }}</text>
<text x="16" y="{{ box.y + 42 }}" font-size="11" fill="{{ muted }}">{{ box.where }}</text>
<text x="220" y="{{ box.y + 22 }}" font-size="12" fill="{{ muted }}">{{ box.says }}</text>
{% for code in box.lines %}\
<text x="220" y="{{ box.y + 42 + 16 * loop.index0 }}" font-size="11.5" fill="{{ ink }}" xml:space="preserve">{{ code }}</text>
{% endfor %}{% endfor %}</svg>
""")


def picture(found: list[Room], theme: str) -> str:
    """Draw the stages below each other, with the first lines of their forms."""
    colours, boxes, y = THEMES[theme], [], 1
    for room in found:
        lines = [_cut(line) for line in room.form.splitlines()]
        shown = lines if len(lines) <= 8 else [*lines[:7], f"… and {len(lines) - 7} lines more"]
        height = 42 + 16 * max(len(shown), 1)
        boxes.append(
            {"name": room.name, "where": room.where, "says": room.says, "lines": shown, "y": y, "height": height}
        )
        y += height + 28
    return _SVG.render(
        boxes=boxes, height=y - 27, box_fill=colours["box"], **{k: v for k, v in colours.items() if k != "box"}
    )


def _cut(line: str) -> str:
    return line if len(line) <= 92 else f"{line[:91]}…"


def written() -> str:
    """Return the stages as the page has them."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN + "\n")[2].partition(END)[0]


def main() -> None:
    """Write the page's stages and the two pictures."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN + "\n")
    if not begin:
        sys.exit(f"{PAGE} has no place for them")
    found = rooms()
    PAGE.write_text(f"{before}{begin}{forms(found)}{END}{rest.partition(END)[2]}", encoding="utf-8")
    for theme in THEMES:
        PAGE.with_name(f"one_graph_{theme}.svg").write_text(picture(found, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
