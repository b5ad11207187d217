"""The lines of a TOML text's keys: tomllib returns values without them."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([\w-]+)""")
# The tokens that decide where a value ends: strings, comments, and brackets that carry it on to further lines.
_TOKEN = re.compile(r"""\"{3}|'{3}|"(?:\\.|[^"\\])*"|'[^']*'|#|[\[{]|[\]}]""")

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table and key of a valid TOML text, by path; `[[x]]` is ("x", 0), then ("x", 1).

    Keys within values that span lines have their own lines too, where one begins a line.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    key: Path = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not quote and not depth and (header := _HEADER.match(line)):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
            continue
        start = 0
        if not quote and (found := _KEY.match(line)):
            key = (*(table if not depth else key), *_parts(found[1])) if depth else (*table, *_parts(found[1]))
            lines.setdefault(key, number)
            start = found.end()
        depth, quote = _carried(line[start:], depth, quote)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Return the line of a path, or of the innermost part of it that has one."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def _parts(dotted: str) -> Path:
    return tuple(double or single or bare for double, single, bare in _PART.findall(dotted))


def _carried(rest: str, depth: int, quote: str) -> tuple[int, str]:
    """Return the number of brackets, and the quotes of a long string, that are open behind `rest`, part of a value."""
    while rest:
        if quote:
            end = rest.find(quote)
            if end < 0:
                return depth, quote
            rest, quote = rest[end + 3 :], ""
            continue
        token = _TOKEN.search(rest)
        if token is None or token[0] == "#":
            return depth, ""
        rest = rest[token.end() :]
        if token[0] in ('"""', "'''"):
            quote = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return depth, quote
