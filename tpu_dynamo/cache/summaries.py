"""One-line summaries of misses: the differences from a near graph, in the words of the model's author."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

NEW = "new"

_SHOWN = 3
_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_(\d+)")
# Parts of a key whose names say less than these words.
_WORDS = {
    "platform": "the platform",
    "matmul precision": "torch.set_float32_matmul_precision",
    "donates": "whether its tensors are on the device",
}
_OPERATION = re.compile(r"%?\S+ = (?:keyed )?(?P<operator>higher order \S+|\S+) (?P<arguments>\(.*\)) \{")


def graph_name(function: str, role: str) -> str:
    """Return the name of a graph's function, and its role unless that is inference, as `Net, backward` or `scaled`."""
    name = function.rpartition("<locals>.")[2].removesuffix(".forward")
    if resumed := _RESUMED.search(name):
        name = f"{name[: resumed.start()]}{resumed[1]}".removesuffix(".forward")
        name += f", after the graph break at line {resumed[2]}"
    return ", ".join(part for part in (name, "" if role == "inference" else role) if part)


def input_name(source: str) -> str:
    """Return an input's name in its author's code: `x` for `L['x']`, `self.a.weight` for a parameter."""
    name = re.sub(r"\._(?:modules|parameters|buffers)\['([^']+)'\]", r".\1", source)
    name = re.sub(r"^[LG]\['(?:kwargs'\]\[')?(\w+)'\]", r"\1", name)
    if name.startswith("___stack"):
        return "the result of the call before"
    if tangent := re.fullmatch(r"tangents_(\d+)", name):
        return f"the gradient of output {tangent[1]}"
    return name


def is_near(was: Mapping[str, Any], now: Mapping[str, Any], texts: Callable[[], tuple[str | None, str | None]]) -> bool:
    """Return whether two graphs are alike enough to be compared: of one function, with at least half in common.

    was, now: parts of two programs' signatures, `key_parts` and `explanation`. texts: returns both graphs as text.
    """
    if was["key_parts"].get("graph") == now["key_parts"].get("graph"):
        return True
    before, after = was["explanation"], now["explanation"]
    if _function(before) != _function(after) or before["role"] != after["role"]:
        return False
    if before["code"] == after["code"]:
        return True
    text_was, text_now = texts()
    if not after.get("function") or text_was is None or text_now is None:
        return False
    ours, theirs = (Counter(name for name, _ in _operations(text)) for text in (text_now, text_was))
    return 2 * (ours & theirs).total() >= max(ours.total(), theirs.total())


def summarise(
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    texts: Callable[[], tuple[str | None, str | None]],
    line_of: Callable[[int], str | None],
) -> str:
    """Return the differences from a near graph, in one line.

    line_of: returns the user's line of the operation with a number in the present graph, `now`.
    """
    found = list(_conditions(was["key_parts"], now["key_parts"]))
    if was["key_parts"].get("graph") != now["key_parts"].get("graph"):
        inputs = list(_inputs(was["explanation"]["inputs"], now["explanation"]["inputs"]))
        found += inputs
        if not inputs or was["explanation"]["code"] != now["explanation"]["code"]:
            found += _code(*texts(), line_of, others=bool(inputs))
    if not found:
        return "the entry was removed or could not be read"
    rest = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {rest} more differences" if rest > 0 else "")


def _function(explanation: Mapping[str, Any]) -> str:
    return _RESUMED.sub(r"\1", str(explanation.get("function") or ""))


def _conditions(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*was, *now)):
        before, after = was.get(name), now.get(name)
        if before == after or name == "graph":
            continue
        if name == "lowering":
            yield "tpu_dynamo itself, or a table of operators, is another"
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            kind = {"options": "option ", "versions": ""}.get(name, f"{name}: ")
            for part in dict.fromkeys((*before, *after)):
                if before.get(part) != after.get(part):
                    yield f"{kind}{part} is {after.get(part)}, was {before.get(part)}"
        else:
            yield f"{_WORDS.get(name, name)} is {after}, was {before}"


def _inputs(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    changes: dict[tuple[str, str], list[str]] = {}
    for name in now.keys() & was.keys():
        for change in _change(was[name], now[name]):
            changes.setdefault(change, []).append(input_name(name))
    # A function's own arguments before parameters, which are longer.
    for (verb, values), names in sorted(changes.items(), key=lambda item: min(map(_order, item[1]))):
        names.sort(key=_order)
        if len(names) == 1:
            yield f"{names[0]} {verb} {values}"
            continue
        many = f"{names[0]} and {names[1] if len(names) == 2 else f'{len(names) - 1} more'}"
        yield f"{many} have {values}" if verb == "has" else f"{many} are {values.replace(', was ', ', were ')}"
    gone, come = ([input_name(name) for name in a.keys() - b.keys()] for a, b in ((was, now), (now, was)))
    for names, verb in ((come, "comes in"), (gone, "no longer comes in")):
        if names:
            names.sort(key=_order)
            yield f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} {verb}"


def _order(name: str) -> tuple[bool, int, str]:
    return "." in name or name[:9] == "primals_", len(name), name


def _change(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if was.get("dtype") != now.get("dtype"):
        yield "is", f"{now.get('dtype')}, was {was.get('dtype')}"
    if was.get("size") != now.get("size"):
        yield "has", f"shape {_shape(now.get('size'))}, was {_shape(was.get('size'))}"
    elif was.get("stride") != now.get("stride"):
        yield "has", f"strides {_shape(now.get('stride'))}, was {_shape(was.get('stride'))}"
    if was.get("device") != now.get("device"):
        yield "is", f"on {now.get('device')}, was on {was.get('device')}"


def _shape(sizes: Any) -> str:
    return str(tuple(sizes)) if isinstance(sizes, list) else str(sizes)


def _operations(text: str) -> list[tuple[str, str]]:
    """Return the operators of a graph and their arguments, in which operations have no numbers."""
    found = []
    for line in text.splitlines():
        if (match := _OPERATION.match(line)) is not None:
            found.append((match["operator"], re.sub(r"%\d+", "%", match["arguments"])))
    return found


def _code(was: str | None, now: str | None, line_of: Callable[[int], str | None], others: bool) -> list[str]:
    """Describe the first operation that differs in its operator or constants, in a list of one; empty where none does.

    others: whether other differences are known; then one that differs in its arguments alone is skipped.
    """
    if was is None or now is None:
        return [] if others else ["other operations"]
    numbers = [i for i, line in enumerate(now.splitlines()) if _OPERATION.match(line)]
    for number, (before, after) in enumerate(zip_longest(_operations(was), _operations(now))):
        if before == after or (before and after and before[0] == after[0] and others):
            continue
        place = line_of(numbers[number]) if number < len(numbers) else None
        at = f" ({place})" if place else ""
        if before is None:
            return [f"{after[0]} is a new operation{at}"]
        if after is None:
            return [f"{before[0]} is no longer an operation"]
        if before[0] != after[0]:
            return [f"{after[0]} in the place of {before[0]}{at}"]
        theirs, ours = next(_pairs(before[1], after[1]))
        return [f"{after[0]} takes {ours}, was {theirs}{at}"]
    return [] if others else ["operations that are put together otherwise, or other constants"]


def _pairs(was: str, now: str) -> Iterator[tuple[str, str]]:
    before, after = was[1:-1].split(", "), now[1:-1].split(", ")
    return ((b, a) for b, a in zip_longest(before, after, fillvalue="nothing") if b != a)
