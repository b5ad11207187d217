"""Parses Dynamo's messages about graph breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ._torch_compat import RESUMED
from .model import BreakOutcome, SourceSpan
from .source_locations import innermost, source_span, whole_condition, with_byte_columns, with_exact_end
from .trace_records import Position

_ANOTHER = "*** While handling this graph break, another graph break occurred: ***"
_INSTRUCTION = re.compile(r"^Encountered graph break when attempting to trace (\w+)[^\n]*:\n\n")
_SKIPPED = re.compile(r"^Failed to handle graph break gracefully[^\n]*:\n\n")
_PARTIAL = re.compile(r"^Encountered graph break that we cannot resume from[^\n]*:\n\n")
_REASON = "Graph Break Reason: "
_USER_STACK = re.compile(r"^(?:User code traceback:|from user code:)$", re.MULTILINE)
_SOURCES = re.compile(r"^Stack variable source attribution:$", re.MULTILINE)
_FRAME = re.compile(r'^ {2,3}File "(.*)", line (\d+), in (.*)$')
_CARETS = re.compile(r"^\s*[~^]+[~^ ]*$")
_PAGE = re.compile(r"^ *For more details about this graph break, please visit: (\S+)", re.MULTILINE)
_RAISED = re.compile(r"^torch\._dynamo\.exc\.(\w+): ", re.MULTILINE)
_SOFT = ("Unsupported", "UserError")
_BRANCH = "Data-dependent branching"


@dataclass(frozen=True)
class BreakText:
    """Dynamo's text about one break: its kind, the explanation, the hints and the context for developers."""

    gb_type: str
    explanation: str
    hints: tuple[str, ...]
    context: str


@dataclass(frozen=True)
class BreakMessage:
    """One message: the first break, the break that it led to (`then`), the stack, and how the function went on."""

    first: BreakText
    then: BreakText | None
    stack: tuple[SourceSpan, ...]
    outcome: BreakOutcome


def break_message(text: str, positions: Sequence[Position] = ()) -> BreakMessage | None:
    """Parse a `dynamo_graph_break_reason` record; return None where it has no known form.

    positions: the stack of the exception with exact columns, where it is known.
    """
    found = _USER_STACK.search(text)
    if _REASON not in text or found is None:
        return None
    reason = text[text.index(_REASON) + len(_REASON) : found.start()]
    sources = _SOURCES.search(reason)
    if sources:
        reason = reason[: sources.start()]
    instruction = _INSTRUCTION.match(reason)
    skipped, partial = _SKIPPED.match(reason), _PARTIAL.match(reason)
    head = instruction or skipped or partial
    first, then = parse_message(reason[head.end() :] if head else reason)
    stack = traceback_places(text[found.end() :].splitlines()[1:])
    opcode = instruction.group(1) if instruction else None
    outcome: BreakOutcome = "skipped" if skipped else "partial" if partial else "resumed"
    return BreakMessage(first, then, _located(first, stack, positions, opcode), outcome)


def error_message(text: str, positions: Sequence[Position] = ()) -> BreakMessage | None:
    """Parse a `dynamo_error` record of a break that left its function in eager; return None for another error."""
    raised = list(_RAISED.finditer(text))
    if not raised or raised[-1].group(1) not in _SOFT:
        return None
    # A chain of errors repeats the message of the first; the last has all of it.
    body = text[raised[-1].end() :]
    found = _USER_STACK.search(body)
    message = body[: found.start()] if found else body
    stack = traceback_places(body[found.end() :].splitlines()[1:]) if found else ()
    first, then = parse_message(message)
    return BreakMessage(first, then, _located(first, stack, positions, None), "skipped")


def parse_message(message: str) -> tuple[BreakText, BreakText | None]:
    """Parse a message as Dynamo's counters and metrics hold it: the first break, and the one that it led to, if any."""
    first, *others = message.split(_ANOTHER)
    return _break_text(first), _break_text(others[-1]) if others else None


def _break_text(text: str) -> BreakText:
    """Parse the text about one break: its kind, then blocks of `Explanation:`, `Hint:` and the developers' context."""
    text = _PAGE.sub("", text).strip("\n")
    head, *rest = text.split("\n")
    explanation, context, hints = "", "", list[str]()
    target: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    for line in rest:
        label = next((n for n in ("Explanation", "Hint", "Developer debug context") if line.startswith(f"  {n}: ")), "")
        if label:
            target = [line[len(label) + 4 :]]
            blocks.append((label, target))
        else:
            target.append(line)
    for label, lines in blocks:
        body = _unindented(lines)
        if label == "Explanation":
            explanation = body
        elif label == "Hint":
            hints.append(body)
        else:
            context = body
    return BreakText(head.strip(), explanation, tuple(hints), context)


def _unindented(lines: Iterable[str]) -> str:
    return "\n".join(line.removeprefix("    ") for line in lines).strip()


def traceback_places(lines: Sequence[str]) -> tuple[SourceSpan, ...]:
    """Return the places of a traceback's frames, outermost first, up to the first line that belongs to no frame.

    Resume functions are folded into the functions that they continue.
    """
    places: list[SourceSpan] = []
    at = 0
    while at < len(lines) and (frame := _FRAME.match(lines[at])):
        file, line, function = frame.group(1), int(frame.group(2)), frame.group(3)
        at += 1
        text, carets = "", None
        if at < len(lines) and lines[at].startswith("    ") and not _FRAME.match(lines[at]):
            text, at = lines[at][4:], at + 1
            if at < len(lines) and _CARETS.match(lines[at]):
                carets, at = lines[at][4:], at + 1
        places.append(source_span(file, line, function, text, carets))
    return folded(places)


def folded(places: Iterable[SourceSpan]) -> tuple[SourceSpan, ...]:
    """Replace resume functions in a stack by the user's functions that they continue, each once."""
    stack: list[SourceSpan] = []
    for found in places:
        resumed = re.fullmatch(RESUMED, found.function)
        if resumed:
            found = replace(found, function=resumed.group("function"))
            if stack and stack[-1].function == found.function and stack[-1].file == found.file:
                stack.pop()
        stack.append(found)
    return tuple(stack)


def _located(
    first: BreakText, stack: tuple[SourceSpan, ...], positions: Sequence[Position], opcode: str | None
) -> tuple[SourceSpan, ...]:
    *outer, inner = _exact(stack, positions, opcode) or (None,)
    if inner is None:
        return ()
    return (*(p for p in outer if p), whole_condition(inner) if first.gb_type == _BRANCH else inner)


def _exact(stack: tuple[SourceSpan, ...], positions: Sequence[Position], opcode: str | None) -> tuple[SourceSpan, ...]:
    """Add columns to a stack: those of the exception's stack, matched from the innermost frame, else the file's."""
    exact = list(stack)
    known: set[int] = set()
    at = len(exact) - 1
    for file, line, first, last in reversed(positions):
        while at >= 0 and (exact[at].file, exact[at].line) != (file, line):
            at -= 1
        if at < 0:
            break
        if first is not None:
            exact[at] = with_byte_columns(exact[at], first, last)
            known.add(at)
        at -= 1
    # Finding an end takes parsing the file, so it is done for the lines that the report shows with a mark.
    last = len(exact) - 1
    shown = (
        {id(innermost(exact)), id(innermost([p for p in exact if p.origin == "own"])), id(exact[last])} if exact else ()
    )
    return tuple(
        with_exact_end(p, opcode if i == last else "CALL") if id(p) in shown and i not in known else p
        for i, p in enumerate(exact)
    )
