"""Locations in source files: their owner, exact columns and the lines around them."""

from __future__ import annotations

import ast
import linecache
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ._torch_compat import torch_folder
from .model import Excerpt, Origin, SourceSpan

# Longer lines are generated or hostile; what lies around the mark is kept.
_LONGEST_LINE = 240
_LARGEST_FILE = 2_000_000

_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_STANDARD = re.compile(r"^<frozen |[/\\]lib[/\\]python3\.\d+[/\\]|[/\\]Python3\d+[/\\]Lib[/\\]")
_TORCH = re.compile(r"[/\\](site|dist)-packages[/\\]torch[/\\]")

# The instruction that a break stopped at, and the expressions that compile to it.
_EXPRESSIONS: dict[str, tuple[type[ast.AST], ...]] = {
    "CALL": (ast.Call,),
    "CALL_FUNCTION_EX": (ast.Call,),
    "BINARY_OP": (ast.BinOp, ast.AugAssign),
    "BINARY_SUBSCR": (ast.Subscript,),
    "COMPARE_OP": (ast.Compare,),
    "CONTAINS_OP": (ast.Compare,),
    "IS_OP": (ast.Compare,),
    "LOAD_ATTR": (ast.Attribute,),
    "STORE_ATTR": (ast.Assign, ast.AugAssign, ast.Attribute),
    "STORE_SUBSCR": (ast.Assign, ast.AugAssign, ast.Subscript),
}


def origin_of(file: str) -> Origin:
    """Return the owner of a file, judged by its path, so that it works for traces of other machines too."""
    if file.startswith(torch_folder()) or _TORCH.search(file):
        return "torch"
    if _INSTALLED.search(file):
        return "library"
    return "python" if _STANDARD.search(file) or file.startswith(sys.base_prefix + "/lib/") else "own"


def innermost(stack: Sequence[SourceSpan]) -> SourceSpan | None:
    """Return the innermost place in the user's or a library's files, else the innermost; None for an empty stack."""
    readable = [place for place in stack if place.origin in ("own", "library")]
    return (readable or list(stack) or [None])[-1]


def source_span(file: str, line: int, function: str = "", text: str = "", carets: str | None = None) -> SourceSpan:
    """Return the place that a frame of a Python traceback names.

    text: the line, stripped. carets: the line of `~` and `^` below it; none means all of the line.
    """
    source = source_line(file, line)
    if not text and source is not None:
        text = source.strip()
    start, end = 0, len(text)
    if carets is not None:
        first = len(carets) - len(carets.lstrip())
        start, end = _offset(text, first), _offset(text, len(carets.rstrip()))
    found = SourceSpan(file, line, function, text, (start, end), origin=origin_of(file))
    return _with_columns(found, source)


def with_byte_columns(found: SourceSpan, first: int | None, last: int | None) -> SourceSpan:
    """Return the place with exact columns; first, last: offsets in UTF-8 bytes in the line with its indentation."""
    source = source_line(found.file, found.line)
    if source is None or first is None or source.strip() != found.text:
        return found
    indent = _indent(source)
    encoded = source.encode("utf-8", "surrogatepass")
    start = len(encoded[:first].decode("utf-8", "replace")) - indent
    end = len(encoded[:last].decode("utf-8", "replace")) - indent if last is not None else len(found.text)
    # An expression that goes on below ends at another line's column.
    if end <= start:
        end = len(found.text)
    return _with_columns(replace(found, mark=(max(start, 0), min(end, len(found.text)))), source)


def with_exact_end(found: SourceSpan, instruction: str | None) -> SourceSpan:
    """Return the place with its end at the end of the expression that starts there.

    A traceback without end positions marks everything to the end of the line. The instruction that was traced, and
    the file itself, say which of the expressions that start there it was.
    """
    if found.column is None or found.mark is None or found.mark[1] < len(found.text):
        return found
    wanted = _EXPRESSIONS.get(instruction or "", (ast.expr,))
    nodes = _starting_at(found.file, found.line, found.column - 1)
    lengths = [end for kind, end in nodes if issubclass(kind, wanted)]
    lengths = lengths or [end for kind, end in nodes if issubclass(kind, ast.expr)]
    if not lengths:
        return found
    indent = found.column - 1 - found.mark[0]
    end = min(max(lengths) - indent, len(found.text))
    return replace(found, mark=(found.mark[0], end), end_column=end + indent + 1)


def whole_condition(found: SourceSpan) -> SourceSpan:
    """Extend the place to all of the expression that starts there.

    For the jump behind `a and b` CPython names the position of `a`, even if it is `b` that depends on data.
    """
    if found.column is None or found.mark is None:
        return found
    nodes = _starting_at(found.file, found.line, found.column - 1)
    indent = found.column - 1 - found.mark[0]
    end = min(max((end - indent for kind, end in nodes if issubclass(kind, ast.expr)), default=0), len(found.text))
    if end <= found.mark[1]:
        return found
    return replace(found, mark=(found.mark[0], end), end_column=end + indent + 1)


def excerpt(found: SourceSpan, before: int = 2, after: int = 1) -> Excerpt | None:
    """Return the lines around a place, or None where its file cannot be read here or has changed since."""
    source = source_line(found.file, found.line)
    if source is None or (found.text and source.strip() != found.text):
        return None
    first = max(1, found.line - before)
    lines = [source_line(found.file, number) for number in range(first, found.line + after + 1)]
    return Excerpt(first, tuple(line.rstrip() for line in lines if line is not None))


def shortened(text: str, mark: tuple[int, int] | None) -> tuple[str, tuple[int, int] | None]:
    """Cut a long line to the part around its mark that is shown; return it with the mark moved accordingly."""
    if len(text) <= _LONGEST_LINE:
        return text, mark
    start, end = mark or (0, 0)
    first = max(0, min(start - 40, len(text) - _LONGEST_LINE))
    shown = text[first : first + _LONGEST_LINE]
    lead = "…" if first else ""
    moved = len(lead) - first
    cut = (max(start + moved, 0), max(start + moved + 1, min(end + moved, len(lead) + len(shown))))
    tail = "…" if first + _LONGEST_LINE < len(text) else ""
    return lead + shown + tail, cut if mark else None


def arguments_at(file: str, line: int) -> frozenset[str]:
    """Return the names of the arguments of the innermost function that a line is in; none where it cannot be read."""
    functions = [
        node
        for node in _parsed(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not functions:
        return frozenset()
    given = functions[-1].args
    named = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
    return frozenset(each.arg for each in named if each is not None)


def source_line(file: str, line: int) -> str | None:
    """Return a line of a file with its indentation and without its newline, or None where it cannot be read."""
    # An empty line still has its end; only what cannot be read is nothing at all.
    text = linecache.getline(file, line)
    return text.rstrip("\r\n") if text else None


def _indent(source: str) -> int:
    return len(source) - len(source.lstrip())


def _with_columns(found: SourceSpan, source: str | None) -> SourceSpan:
    if source is None or source.strip() != found.text or found.mark is None or not found.text:
        return replace(found, column=None, end_column=None)
    indent = _indent(source)
    return replace(found, column=indent + found.mark[0] + 1, end_column=indent + found.mark[1] + 1)


def _offset(text: str, width: int) -> int:
    """Return the offset of the character at column `width` of a screen, where some characters are two columns wide."""
    passed = 0
    for offset, character in enumerate(text):
        if passed >= width:
            return offset
        passed += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return len(text)


def _starting_at(file: str, line: int, column: int) -> list[tuple[type[ast.AST], int]]:
    """Return the types of the syntax nodes that start at a character, each with the offset of its end on that line."""
    source = source_line(file, line) or ""
    encoded = source.encode("utf-8", "surrogatepass")
    start = len(source[:column].encode("utf-8", "surrogatepass"))
    return [
        (kind, len(encoded[:end].decode("utf-8", "replace")) if last_line == line else len(source.rstrip()))
        for kind, last_line, end in _nodes(file).get((line, start), ())
    ]


@lru_cache(maxsize=32)
def _parsed(file: str) -> tuple[ast.AST, ...]:
    """Return a file's syntax nodes, outer ones first; none where it is too large or no Python."""
    text = "".join(linecache.getlines(file))
    if len(text) > _LARGEST_FILE:
        return ()
    try:
        return tuple(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return ()


@lru_cache(maxsize=32)
def _nodes(file: str) -> dict[tuple[int, int], list[tuple[type[ast.AST], int, int]]]:
    nodes: dict[tuple[int, int], list[tuple[type[ast.AST], int, int]]] = {}
    for node in _parsed(file):
        line, column = getattr(node, "lineno", None), getattr(node, "col_offset", None)
        if line is not None and column is not None:
            end = (type(node), getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))
            nodes.setdefault((line, column), []).append(end)
    return nodes
