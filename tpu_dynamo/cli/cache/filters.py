"""Chooses the entries that a verb is about, by filters and by keys that may be cut short."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from tpu_dynamo.cache.entries import Described
from tpu_dynamo.formatting import parse_bytes, parse_duration

from ..console import waiting
from ..exit_codes import refuse
from .open_store import open_to_read


def size(text: str) -> int:
    """Parse a size of the command line."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def age(text: str) -> float:
    """Parse a time of the command line."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def completions(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys that begin with `incomplete`, each with its graph, for completion by the shell."""
    found = open_to_read(None).entries()
    keys = [(item.entry.key[:12], f"{item.entry.kind} {item.graph or ''}") for item in found]
    return [(key, graph) for key, graph in keys if key.startswith(incomplete)]


Kind = Annotated[str | None, typer.Option(metavar="KIND", help="Only these: program, executable.")]
Platform = Annotated[str | None, typer.Option(metavar="NAME", help="Only those for cpu, tpu or cuda.")]
Graph = Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose graph has this in its name.")]
UnusedFor = Annotated[
    float | None, typer.Option(parser=age, metavar="AGE", help="Only those not used for as long, as 12h or 30d.")
]
LargerThan = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="Only those that take more on the disk, as 1MiB.")
]
Stale = Annotated[
    bool, typer.Option("--stale", help="Only those that no process can find with the versions that are installed.")
]
Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY",
        help="Keys, or as much of their beginnings as is unambiguous.",
        autocompletion=completions,
    ),
]


@dataclass(frozen=True)
class Filter:
    """Conditions, all of which an entry has to meet: each is an option of the verbs that filter entries."""

    kind: Kind = None
    platform: Platform = None
    graph: Graph = None
    unused_for: UnusedFor = None
    larger_than: LargerThan = None
    stale: Stale = False

    def __bool__(self) -> bool:
        return self != EVERYTHING

    def of(self, entries: Sequence[Described], now: float | None = None) -> list[Described]:
        """Return the entries that meet the conditions, in their order. now: seconds since 1970."""
        moment = time.time() if now is None else now
        found = [item for item in entries if self._meets(item, moment)]
        return stale_entries(found) if self.stale else found

    def _meets(self, item: Described, now: float) -> bool:
        return (
            self.kind in (None, item.entry.kind)
            and self.platform in (None, item.platform)
            and (self.graph is None or self.graph.lower() in (item.graph or "").lower())
            and (self.unused_for is None or item.entry.last_use < now - self.unused_for)
            and (self.larger_than is None or item.entry.size > self.larger_than)
        )


EVERYTHING = Filter()


def filtering(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of Filter in the place of its parameter `conditions`, which is the Filter of them."""
    types = get_type_hints(Filter, include_extras=True)
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
        for f in fields(Filter)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        parameters += options if parameter.name == "conditions" else [parameter]

    def filtered(**arguments: Any) -> None:
        conditions = Filter(**{option.name: arguments.pop(option.name) for option in options})
        verb(conditions=conditions, **arguments)

    filtered.__doc__, filtered.__name__ = verb.__doc__, verb.__name__
    # typer reads the options from both.
    filtered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    vars(filtered)["__signature__"] = inspect.Signature(keyword_only)
    return filtered


def stale_entries(entries: Sequence[Described]) -> list[Described]:
    """Return the entries that no process of this installation can find any more."""
    if not entries:
        return []
    with waiting("comparing with what is installed"):
        from tpu_dynamo.cache.staleness import Present

        present = Present()
        return [item for item in entries if present.reasons(item)]


def by_key(entries: Sequence[Described], keys: Sequence[str]) -> list[Described]:
    """Return the entries of these keys, each once. Refuses a key that belongs to no entry, or to several."""
    found: dict[tuple[str, str], Described] = {}
    for key in keys:
        item = entry_of(entries, key)
        found[item.entry.kind, item.entry.key] = item
    return list(found.values())


def entry_of(entries: Sequence[Described], key: str) -> Described:
    """Return the entry whose key begins with `key`. Refuses a beginning that no entry, or several, have."""
    matching = [item for item in entries if item.entry.key.startswith(key.strip().lower())] if key.strip() else []
    if not matching:
        refuse(f"no entry has a key that begins with {key!r}; `tpu-dynamo cache ls` lists them")
    if len(matching) > 1:
        listed = "\n".join(f"    {item.entry.key[:20]}  {item.entry.kind}  {item.graph or ''}" for item in matching[:8])
        more = f"\n    and {len(matching) - 8} more" if len(matching) > 8 else ""
        refuse(f"the keys of {len(matching)} entries begin with {key!r}; say more of it:\n{listed}{more}")
    return matching[0]


def chosen(entries: Sequence[Described], keys: Sequence[str] | None, conditions: Filter) -> list[Described]:
    """Return the entries of these keys, or of all if there are none, that meet the conditions."""
    return conditions.of(by_key(entries, keys) if keys else entries)
