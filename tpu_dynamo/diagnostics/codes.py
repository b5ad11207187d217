"""Our own codes and torch's: what each stands for, and the page that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from .fixes import FIXES

if TYPE_CHECKING:
    from ._torch_compat import RegisteredBreak

_TITLES = {
    "TPU101": "An operator has no lowering",
    "TPU102": "An input that no program can take",
    "TPU103": "A stage failed on a graph that should compile",
    "TPU104": "A program does not fit the memory of the chip",
    "TPU105": "Compiling ahead of time meets code that needs values",
    "TPU106": "An optimizer that cannot be part of a training step",
    "TPU107": "What the loss function returned is not a loss",
    "TPU108": "A frozen parameter changed",
    "TPU201": "A size changes from call to call",
    "TPU202": "A number changes from call to call",
    "TPU203": "A Python value changes from call to call",
    "TPU204": "A property of a tensor changes from call to call",
    "TPU205": "Torch's global state changes from call to call",
    "TPU301": "Tensors are on several devices",
    "TPU302": "A tensor is on a device that the backend does not read",
    "TPU401": "A program was compiled that was not in the cache",
    "TPU402": "A program would be compiled where that is forbidden",
    "TPU501": "The platform is not available",
    "TPU502": "The target is unknown",
    "TPU503": "An option is wrong",
    "TPU504": "The name of the device is taken",
    "TPU505": "The target is compile-only",
    "TPU506": "The memory of the device is full",
    "TPU601": "Ranks are to run different programs together",
    "TPU602": "A rank does not come to a program of several ranks",
    "TPU603": "A rank died",
}


class UnknownCode(ValueError):
    """A code that neither we nor torch's registry know."""


def own_codes() -> Mapping[str, str]:
    """Return our codes, each with its title."""
    return _TITLES


def explanation(code: str) -> str:
    """Return the page that explains one of our codes or of torch's, as Markdown. Raises UnknownCode."""
    wanted = code.strip().upper()
    if wanted in _TITLES:
        return _page(wanted)
    # torch's registry alone needs torch.
    from ._torch_compat import break_page, registered_break

    if found := registered_break(wanted):
        return _torch_page(wanted, found, break_page(wanted))
    raise UnknownCode(f"no code {code!r}; ours are {', '.join(_TITLES)}, torch's graph breaks GB0000 and on")


def _page(code: str) -> str:
    # In a wheel the pages lie inside of the package, in a checkout where people look for them.
    packaged = resources.files(__package__ or "") / "pages" / f"{code}.md"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "docs" / "errors" / f"{code}.md").read_text(encoding="utf-8")


def _torch_page(code: str, found: RegisteredBreak, address: str) -> str:
    """Return the page on a code of torch's: what torch says of it, our fixes, and the address of torch's page."""
    parts = [f"# {code}: {found.gb_type}", found.explanation, *(f"* {hint}" for hint in found.hints)]
    for fix in FIXES:
        if fix.code == code:
            parts.append(f"## {fix.title}\n\n{fix.text}")
            if fix.before:
                parts.append(f"```python\n# before\n{fix.before}\n\n# after\n{fix.after}\n```")
    parts.append(f"torch's page: {address}")
    return "\n\n".join(part for part in parts if part)
