"""Writes the tables of docs/reference from the code: options, counts and errors.

python -m tests.docs.reference
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable
from types import ModuleType

import tpu_dynamo
from tpu_dynamo import Options, Snapshot
from tpu_dynamo.device_memory import Memory
from tpu_dynamo.diagnostics.codes import own_codes

from .pages import ROOT

FOLDER = ROOT / "docs" / "reference"
_GROUPS = {
    "1": "What cannot be compiled",
    "2": "What is compiled again",
    "3": "Devices",
    "4": "The cache",
    "5": "The environment",
    "6": "Several ranks",
}


def site_module(name: str) -> ModuleType:
    """Return a module of docs/site, which is no package: mkdocs loads its files by their paths."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said_of_fields(of: type) -> dict[str, str]:
    """Return what a dataclass's docstring says of each of its fields, with links in the place of pages' names."""
    names = [field.name for field in dataclasses.fields(of)]
    said = site_module("parameters").described(inspect.getdoc(of) or "", names)
    assert set(said) == set(names), f"{of.__name__}: nothing is said of {set(names) - set(said)}"
    return {name: re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", said[name]) for name in names}


def options() -> str:
    """Return the page of the options of the backend."""
    types, said = typing.get_type_hints(Options), said_of_fields(Options)
    parts = [
        "# Options",
        '`torch.compile(model, backend="tpu", options={...})`. `tpu_dynamo.train_step`, `compile_for`, `check`, '
        "`precompile`, `decode_loop` and the manifests of `tpu-dynamo warmup` take the same, as far as they can mean "
        "something there. An unknown name or a value of another kind is an [OptionError](../errors/TPU503.md), which "
        "names the closest. Written from `tpu_dynamo/options.py` by `python -m tests.docs.reference`.",
    ]
    for field in dataclasses.fields(Options):
        unkeyed = field.metadata.get("unkeyed")
        kept = f"no part of a program's key: {unkeyed}" if unkeyed else "part of a program's key"
        rows = f"* default: `{field.default!r}`\n* takes: `{_shown(types[field.name])}`\n* {kept}"
        parts.append(f"## `{field.name}`\n\n{_sentence(said[field.name])}\n\n{rows}")
    return "\n\n".join(parts) + "\n"


def _shown(hint: object) -> str:
    """Return a type as users read it."""
    if getattr(hint, "__origin__", None) is typing.Literal or typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if typing.get_args(hint) and typing.get_origin(hint) is not tuple:
        return " or ".join(_shown(each) for each in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a dict or a list, as said above"
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))


def counts() -> str:
    """Return the page of the counts of a process."""
    parts = [
        "# Counts",
        "What a process can say of itself, as plain numbers for a log or a monitor. Written from the docstrings by "
        "`python -m tests.docs.reference`.",
        "## `tpu_dynamo.stats()`",
        "`tpu_dynamo.stats().as_dict()` is ready for JSON; `tpu_dynamo.reset_stats()` sets every count to zero. "
        "A notebook shows those that are not zero as a table.",
        _table("count", Snapshot),
        "## `tpu_dynamo.memory()`",
        "Bytes of the device's memory by owner.",
        _table("owner", Memory),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: str, of: type) -> str:
    rows = [f"| `{name}` | {_sentence(text)} |" for name, text in said_of_fields(of).items()]
    return "\n".join([f"| {head} | |", "| --- | --- |", *rows])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}".rstrip(".;") + "."


def errors() -> str:
    """Return the page of our codes: the page of each, and what is raised with it."""
    raised: dict[str, list[str]] = {}
    for name in sorted(tpu_dynamo.__all__):
        code = _code_of(getattr(tpu_dynamo, name))
        if code:
            raised.setdefault(code, []).append(f"[`{name}`](api.md#tpu_dynamo.{name})")
    parts = [
        "# Errors",
        "Our codes stand on the last line of messages (`TPU101: ...`), in reports and in `.code` of what is raised. "
        "`tpu-dynamo explain TPU101` prints the same pages, and those of torch's `GB....`. Written by "
        "`python -m tests.docs.reference`.",
    ]
    for digit, group in _GROUPS.items():
        rows = [
            f"| [{code}](../errors/{code}.md) | {title} | {', '.join(raised.get(code, []))} |"
            for code, title in own_codes().items()
            if code[3] == digit
        ]
        parts.append("\n".join([f"## {group}", "", "| code | | raised |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _code_of(raised: object) -> str:
    """Return the code of an exception: its class's, or the one that its instances have unless they are given another."""
    if not (isinstance(raised, type) and issubclass(raised, BaseException)):
        return ""
    given = inspect.signature(raised.__init__).parameters.get("code")
    return getattr(raised, "code", given.default if given else "")


PAGES: dict[str, Callable[[], str]] = {"options.md": options, "counts.md": counts, "errors.md": errors}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        FOLDER.joinpath(name).write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
