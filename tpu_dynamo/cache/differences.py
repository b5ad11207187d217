"""The differences between two sets of named parts, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

_ABSENT = "nothing"


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one phrase for each part that differs; inside a part that has parts itself, for each of these."""
    return [words for name in _names(was, now) for words in _part(name, was.get(name), now.get(name))]


def program_differences(
    was: Mapping[str, Any], now: Mapping[str, Any], graphs: Callable[[], tuple[str | None, str | None]]
) -> list[str]:
    """Return the differences between two programs from their entries' metadata; none where they are the same.

    graphs: returns both graphs as text, None for one that cannot be read; called only where the texts are needed.
    """
    before, after = dict(was["key_parts"]), dict(now["key_parts"])
    graph_differs = before.pop("graph", None) != after.pop("graph", None)
    reasons = differences(before, after)
    if not graph_differs:
        return reasons
    old, new = was["explanation"], now["explanation"]
    inputs = input_differences(old["inputs"], new["inputs"])
    if old["role"] != new["role"]:
        reasons.append(f"it is a {new['role']} graph, that was a {old['role']} graph")
    if old["code"] == new["code"] and inputs:
        return reasons + inputs
    text_was, text_now = graphs()
    operation = first_difference(text_was, text_now) if text_was is not None and text_now is not None else None
    guards = differences({"guards": old["guards"]}, {"guards": new["guards"]})
    return reasons + ([operation] if operation else ["the graph differs"]) + inputs[:8] + guards[:4]


def input_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between a graph's inputs, as the guards on them that a call would fail."""
    found = []
    for name in _names(was, now):
        if name not in was or name not in now:
            found.append(f"{'no' if name not in now else 'a new'} input {name}")
            continue
        before, after = was[name], now[name]
        for field in _names(before, after):
            found += _guard(name, field, before.get(field), after.get(field))
    return found


def first_difference(was: str, now: str) -> str | None:
    """Describe the first operation in which two graphs differ; None where they are equal."""
    for number, (before, after) in enumerate(zip_longest(was.splitlines(), now.splitlines())):
        if before != after:
            return f"operation {number} of the graph was {_operation(before)}, now {_operation(after)}"
    return None


def _names(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys((*was, *now)))


def _part(name: str, was: Any, now: Any) -> Iterator[str]:
    if was == now:
        return
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for inner in _names(was, now):
            yield from _part(inner if name == "versions" else f"{name}: {inner}", was.get(inner), now.get(inner))
    elif isinstance(was, list | None) and isinstance(now, list | None):
        was, now = was or [], now or []
        gained, lost = [x for x in now if x not in was], [x for x in was if x not in now]
        if gained:
            yield f"{name} gained {_listed(gained)}"
        if lost:
            yield f"{name} lost {_listed(lost)}"
        if not gained and not lost:
            yield f"{name} came in another order"
    else:
        yield f"{name} {_value(was)} -> {_value(now)}"


def _guard(name: str, field: str, was: Any, now: Any) -> Iterator[str]:
    if was == now:
        return
    if field in ("size", "stride") and isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            if field == "size":
                yield f"guard {name}.ndim was {len(was)}, now {len(now)}"
            return
        for dimension, (before, after) in enumerate(zip(was, now, strict=True)):
            if before != after:
                yield f"guard {name}.{field}()[{dimension}] was {before}, now {after}"
    else:
        yield f"guard {name}.{field} was {_value(was)}, now {_value(now)}"


def _operation(line: str | None) -> str:
    text = _ABSENT if line is None else line.partition(" = ")[2]
    return text if len(text) <= 160 else text[:157] + "..."


def _listed(items: list[Any]) -> str:
    shown = ", ".join(str(item) for item in items[:8])
    return shown + (f" and {len(items) - 8} more" if len(items) > 8 else "")


def _value(value: Any) -> str:
    if value is None:
        return _ABSENT
    text = str(value)
    # A digest says no more than that it differs.
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
