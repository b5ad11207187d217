"""Docstrings for the site: `name: what it is.`, as this project writes parameters and fields, becomes a list."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import griffe


def parameters_listed(docstring: str, names: Collection[str]) -> str:
    """Return a docstring in Markdown, in which sentences that begin with some of these names are items of lists."""
    return "\n\n".join(_listed(paragraph, names) for paragraph in docstring.split("\n\n"))


def described(docstring: str, names: Collection[str]) -> dict[str, str]:
    """Return what a docstring says of each of these names, in its order; names that share a text have it each."""
    found: dict[str, str] = {}
    for paragraph in docstring.split("\n\n"):
        _, items, _ = _taken_apart(paragraph, names)
        found |= {name: text for together, text in items for name in together}
    return found


def _listed(paragraph: str, names: Collection[str]) -> str:
    before, items, after = _taken_apart(paragraph, names)
    if not items:
        return paragraph
    rows = [f"* {', '.join(f'`{name}`' for name in together)}: {text}" for together, text in items]
    return "\n\n".join(part for part in (before, "\n".join(rows), after) if part)


def _taken_apart(paragraph: str, names: Collection[str]) -> tuple[str, list[tuple[list[str], str]], str]:
    """Return what stands before a paragraph's first name, names that stand together with their text, and the end."""
    if not names:
        return paragraph, [], ""
    name = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    line = " ".join(paragraph.split())
    before, *rest = re.split(rf"(?:^|(?<=[.;] ))((?:{name})(?:, (?:{name}))*): ", line)
    items = [(together.split(", "), text.strip()) for together, text in zip(rest[::2], rest[1::2], strict=True)]
    if not items:
        return paragraph, [], ""
    last, *after = re.split(r"(?<=\.) (?=Raises )", items[-1][1], maxsplit=1)
    items[-1] = (items[-1][0], last)
    return before.strip(), items, "".join(after)


class ListParameters(griffe.Extension):
    """Lists the parameters of functions and the fields of classes in their docstrings."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of a package that was read."""
        for each in _objects(pkg):
            if each.docstring:
                names = [p.name for p in each.parameters] if isinstance(each, griffe.Function) else list(each.members)
                each.docstring.value = parameters_listed(each.docstring.value, names)


def _objects(of: griffe.Object) -> Iterator[griffe.Object]:
    for member in of.members.values():
        if isinstance(member, griffe.Object):
            yield member
            yield from _objects(member)
