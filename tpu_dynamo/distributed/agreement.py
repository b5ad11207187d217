"""Agreement of ranks on what they are about to run together: before a program's first run, by its digest."""

from __future__ import annotations

import difflib
import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from tpu_dynamo_lowering import with_code
from tpu_dynamo_runtime import Span

from .link import Link

# Lines of a difference that an error shows.
_SHOWN = 24


class ProgramsDiffer(RuntimeError):
    """Ranks are about to run different programs together, which would hang or give nonsense."""

    code = "TPU601"

    def __init__(self, ranks: tuple[int, int], places: tuple[str, str], difference: str):
        self.ranks = ranks
        message = (
            f"rank {ranks[0]} and rank {ranks[1]} are to run different programs together\n"
            f"  rank {ranks[0]}: at {places[0]}\n  rank {ranks[1]}: at {places[1]}\n{difference}\n"
            "  try: the same calls in the same order, on tensors of the same shapes, on all ranks; what only one rank\n"
            "  computes must not take part in collectives"
        )
        super().__init__(with_code(message, self.code))


class RankMissing(RuntimeError):
    """A rank does not run the program that the others run."""

    code = "TPU602"

    def __init__(self, ranks: list[int], place: str, why: str):
        self.ranks = tuple(ranks)
        named = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks}"
        message = (
            f"{named} did not come to a program of several ranks: {why}\n  at {place}\n"
            "  try: the same calls in the same order on all ranks, or init_process_group(timeout=...) with a longer\n"
            "  timeout for ranks that are far apart"
        )
        super().__init__(with_code(message, self.code))


class Agreement:
    """The programs that this process has agreed on with others, in the order in which they came, for each span."""

    def __init__(self, link: Link):
        self._link = link
        self._agreed: dict[Span, list[str]] = {}

    def agree(self, span: Span, digest: str, place: str, outline: Callable[[], list[str]]) -> None:
        """Wait until all ranks of a span are about to run the program of this digest; once for each program.

        place: the line of the user's code that runs it. outline: the program's lines, to be compared where digests
        differ. Raises ProgramsDiffer and RankMissing, on all of the ranks that came.
        """
        agreed = self._agreed.setdefault(span, [])
        if digest in agreed:
            return
        own, lead = self._link.job.rank, span[0]
        name = f"tpu_dynamo/agreement/{'.'.join(map(str, span))}/{len(agreed)}"
        agreed.append(digest)
        self._link.put(f"{name}/{own}", json.dumps({"digest": digest, "place": place}).encode())
        if own == lead:
            verdict = self._judge(name, span)
            self._link.put(f"{name}/verdict", json.dumps(verdict).encode())
        else:
            found = self._link.wait(f"{name}/verdict", self._link.job.patience + 60, partial(self._link.has_left, lead))
            if found is None:
                raise RankMissing([lead], place, self._why([lead]))
            verdict = json.loads(found)
        if verdict.get("missing"):
            raise RankMissing(verdict["missing"], place, verdict["why"])
        if verdict.get("differs"):
            self._explain(name, verdict, own, outline)

    def _judge(self, name: str, span: Span) -> dict[str, Any]:
        came: dict[int, dict[str, str]] = {}
        missing = []
        for rank in span:
            found = self._link.wait(f"{name}/{rank}", self._link.job.patience, partial(self._link.has_left, rank))
            if found is None:
                missing.append(rank)
                break
            came[rank] = json.loads(found)
        if missing:
            return {"missing": missing, "why": self._why(missing)}
        lead = span[0]
        differs = [rank for rank in span if came[rank]["digest"] != came[lead]["digest"]]
        if not differs:
            return {}
        ranks = lead, differs[0]
        return {"differs": ranks, "places": [came[rank]["place"] for rank in ranks]}

    def _explain(self, name: str, verdict: dict[str, Any], own: int, outline: Callable[[], list[str]]) -> None:
        ranks = tuple(verdict["differs"])
        if own in ranks:
            self._link.put(f"{name}/outline/{own}", zlib.compress("\n".join(outline()).encode()))
        outlines = []
        for rank in ranks:
            found = self._link.wait(f"{name}/outline/{rank}", 60)
            outlines.append(zlib.decompress(found).decode().splitlines() if found is not None else [])
        names = [f"rank {rank}" for rank in ranks]
        lines = list(difflib.unified_diff(outlines[0], outlines[1], *names, n=0, lineterm=""))
        shown = [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else lines
        raise ProgramsDiffer((ranks[0], ranks[1]), tuple(verdict["places"]), "\n".join(f"    {line}" for line in shown))

    def _why(self, ranks: list[int]) -> str:
        if any(map(self._link.has_left, ranks)):
            return "its process has ended"
        return f"it did something else for {self._link.job.patience:.0f} seconds"
