"""Parses Dynamo's messages about failed guards into the value, the dimension, what was expected and what came."""

from __future__ import annotations

import re
from dataclasses import replace

from .messages import traceback_places
from .model import FailedGuard
from .source_locations import source_span

_ENTRY = re.compile(r"^(!?\d+(?:/\d+)*): ")
_USER_STACK = "\nUser stack trace:\n"
_LOCAL = re.compile(r"L\['(\w+)'\]")
_COMMENT_PLACE = re.compile(r"(\S+\.py):(\d+) in (\S+)")

_TENSOR = re.compile(r"tensor '(?P<source>.*?)' (?P<what>.*)", re.DOTALL)
_SIZE = re.compile(r"(size|stride) mismatch at index (\d+)\. expected (-?\w+), actual (-?\w+)")
_COMPARED = re.compile(r"(rank|dtype|dispatch key set) mismatch\. expected (.*?), actual (.*?)(?:\. Guard failed.*)?$")
_DEVICE = re.compile(r"(?:Tensor )?device index mismatch\. Expected device index to be (\S+?), got (\S+)")
_REQUIRES_GRAD = re.compile(r"requires_grad mismatch\. expected requires_grad=(\d)")
_GLOBAL = re.compile(r"GLOBAL_STATE changed: (.*)")
_TYPE = re.compile(r"___check_type_id\((?P<source>.*), \d+\)(?:, type=<class '(?P<expected>.*?)'>)?")
_IDENTITY = re.compile(r"___check_obj_id\((?P<source>.*), \d+\)(?:, type=<class '(?P<expected>.*?)'>)?")
_LENGTH = re.compile(r"len\((?P<source>.*)\) == (?P<expected>\d+)")
_EMPTY = re.compile(r"not (?P<source>[\w.\[\]']+)")
_CONTAINS = re.compile(r"(?P<no>not )?___dict_contains\((?P<key>.*?), (?P<source>.*)\)")
_NONE = re.compile(r"(?P<source>.*) is (?P<expected>(?:not )?None)")
_VALUE = re.compile(r"(?P<source>[\w.\[\]'\"]+(?:\(\))?) == (?P<expected>.*)", re.DOTALL)
_SHAPE = re.compile(r"([\w.\[\]'\"]+)\.(?:size|stride)\(\)\[(\d+)\]")

_KINDS = {"rank": "rank", "dtype": "dtype", "dispatch key set": "dispatch_keys"}


def failed_guards(reason: str) -> tuple[FailedGuard, ...]:
    """Parse one reason of a `recompile_reasons` record: the guards of one cache entry that failed."""
    entry = _ENTRY.match(reason)
    body = reason[entry.end() :] if entry else reason
    body, _, stack = body.partition(_USER_STACK)
    places = traceback_places(stack.splitlines()) if stack else ()
    found = []
    for part in body.split("; ") if ";" in body and not places else [body]:
        expression, comment = _split_comment(part)
        guard = replace(_guard(expression), entry=entry.group(1) if entry else None)
        named = _COMMENT_PLACE.search(comment)
        where = places[-1] if places else None
        if where is None and named and named.group(1).startswith("/"):
            where = source_span(named.group(1), int(named.group(2)), named.group(3))
        found.append(replace(guard, place=where))
    return tuple(found)


def short_source(source: str) -> str:
    """Replace Dynamo's `L['x']` by `x`, as its messages about guards do."""
    return _LOCAL.sub(r"\1", source)


def full_source(source: str) -> str:
    """Put the first name of a source into `L['...']`, as TORCH_COMPILE_DYNAMIC_SOURCES wants it."""
    return re.sub(r"^\w+", lambda name: f"L['{name.group()}']", source)


def _split_comment(text: str) -> tuple[str, str]:
    """Split a guard into its expression and the comment behind it; a `#` within quotes begins no comment."""
    quote = ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and text[at - 2 : at] == "  ":
            return text[:at].strip(), text[at:]
    return text.strip(), ""


def _guard(text: str) -> FailedGuard:
    if tensor := _TENSOR.fullmatch(text):
        return _of_tensor(text, tensor.group("source"), tensor.group("what"))
    if state := _GLOBAL.fullmatch(text):
        return FailedGuard(text, "global_state", source=state.group(1).strip())
    if text.startswith("Duplicate tensors found"):
        return FailedGuard(text, "aliasing", source=text.partition(": ")[2])
    if text.startswith("Cache line invalidated"):
        return FailedGuard(text, "expired")
    for pattern, kind in ((_TYPE, "type"), (_IDENTITY, "identity"), (_LENGTH, "length")):
        if found := pattern.fullmatch(text):
            return FailedGuard(text, kind, source=found.group("source"), expected=found.group("expected"))
    if found := _CONTAINS.fullmatch(text):
        expected = f"{'without' if found.group('no') else 'with'} key {found.group('key')}"
        return FailedGuard(text, "keys", source=found.group("source"), expected=expected)
    if shape := _SHAPE.search(text):
        return FailedGuard(
            text, "shape_expression", source=shape.group(1), dimension=int(shape.group(2)), expected=text
        )
    if found := _EMPTY.fullmatch(text):
        return FailedGuard(text, "length", source=found.group("source"), expected="0")
    for pattern in (_NONE, _VALUE):
        if found := pattern.fullmatch(text):
            return FailedGuard(text, "value", source=found.group("source"), expected=found.group("expected"))
    return FailedGuard(text, "other")


def _of_tensor(text: str, source: str, what: str) -> FailedGuard:
    if found := _SIZE.match(what):
        kind, dimension, expected, actual = found.groups()
        return FailedGuard(text, kind, source, int(dimension), expected, actual)
    if found := _COMPARED.match(what):
        kind, expected, actual = found.groups()
        return FailedGuard(text, _KINDS[kind], source, None, expected, actual)
    if found := _DEVICE.match(what):
        return FailedGuard(text, "device", source, None, found.group(1), found.group(2))
    if found := _REQUIRES_GRAD.match(what):
        expected = bool(int(found.group(1)))
        return FailedGuard(text, "requires_grad", source, None, str(expected), str(not expected))
    return FailedGuard(text, "other", source)


def actual_value(guard: FailedGuard, guards: str, symbols: dict[str, str]) -> str | None:
    """Return the value that failed a guard, as the compile that followed saw it; None where nothing records it.

    guards: that compile's tree of guards, as text. symbols: the values of what it made symbolic, by source.
    """
    if guard.actual is not None or guard.source is None:
        return guard.actual
    if guard.kind == "global_state":
        return _global_state(guard.source, guards)
    known = {short_source(source): value for source, value in symbols.items()}
    if guard.kind == "shape_expression":
        return known.get(f"{guard.source}.size()[{guard.dimension}]") or _size(guard, guards)
    if guard.kind == "value" and guard.source in known:
        return known[guard.source]
    return _from_tree(guard, short_source(guards))


def _from_tree(guard: FailedGuard, tree: str) -> str | None:
    source = re.escape(guard.source or "")
    if guard.kind == "value":
        found = re.search(rf"(?:EQUALS|TRUE|FALSE)_MATCH: {source} == (.*?)(?:\s+#|$)", tree, re.MULTILINE)
        if found is None and re.search(rf"NONE_MATCH: {source} is None", tree):
            return "None"
        if found:
            return found.group(1)
    if guard.kind == "length":
        found = re.search(rf"LENGTH_CHECK: len\({source}\) == (\d+)", tree)
        if found is None and re.search(rf"LENGTH_CHECK: not {source}\s", tree):
            return "0"
        if found:
            return found.group(1)
    found = re.search(rf"source={source}, accessed_by=.*?, type=<class '(.*?)'>", tree)
    if found is None or guard.kind not in ("type", "value"):
        return None
    return found.group(1)


def _size(guard: FailedGuard, tree: str) -> str | None:
    source = re.escape(guard.source or "")
    found = re.search(rf"check_tensor\({source}, .*? size=\[(.*?)\]", short_source(tree))
    sizes = found.group(1).split(", ") if found else []
    return sizes[guard.dimension] if guard.dimension is not None and guard.dimension < len(sizes) else None


def _global_state(names: str, tree: str) -> str | None:
    values = [re.search(rf'"{re.escape(name)}":(\w+)', tree) for name in names.split()]
    known = [f"{name}={value.group(1)}" for name, value in zip(names.split(), values, strict=True) if value]
    return ", ".join(known) or None
