"""Made-up reports: large ones, and ones with text that means harm."""

from __future__ import annotations

from pathlib import Path

from tpu_dynamo.diagnostics.breaks import digest
from tpu_dynamo.diagnostics.model import (
    Advice,
    Break,
    BreakCost,
    CacheLookup,
    CacheMiss,
    FailedGuard,
    Failure,
    Fallback,
    FrameCompile,
    Quantity,
    Recompile,
    Report,
    ReportedRun,
    SkippedFrame,
    SourceSpan,
    StageTime,
    Unrecorded,
    UnsupportedOperation,
)
from tpu_dynamo.diagnostics.source_locations import excerpt

HOSTILE = (
    "<script>window.harmed=1</script><img src=x onerror=window.harmed=1>\"'--></style>&lt; "
    "\x1b[31mred\x1b]0;title\x07 \u202ereversed\u202c {{ 7*7 }} {% raw %} [bold]%0A::error::x"
)


def seconds(value: float, measured: bool = True) -> Quantity:
    return Quantity(value, "s", measured, f"a basis {HOSTILE}" if not measured else "measured")


def a_break(number: int, place: SourceSpan, text: str = "", **changes: object) -> Break:
    cost = BreakCost(
        Quantity(1, "graphs", True, "graphs"), seconds(0.5), seconds(0.01), seconds(0.02 + number / 1e4, False),
        Quantity(4096, "B", False, "shapes"),
    )  # fmt: skip
    values = {
        "fingerprint": digest(("break", str(number))), "code": "GB0124", "gb_type": f"Unsupported Tensor.item(){text}",
        "kind": "user", "page": "https://example.org/gb0124.html", "place": place, "own_place": None,
        "excerpt": excerpt(place), "stack": (place, place), "explanation": f"Dynamo does not.{text}",
        "hints": (f"Set an option.{text}",), "context": "", "outcome": "resumed", "followed_by": None,
        "caused_by": None, "met": 2, "compiles": (f"{number}/0",), "ranks": (0, 1),
        "advice": Advice(f"keep it a tensor{text}", f"It leaves the graph.{text}", "def f(x):\n    return x.item()",
                         "def f(x):\n    return x"),
        "cost": cost,
    } | changes  # fmt: skip
    return Break(**values)


def large(folder: Path, breaks: int) -> Report:
    """A report with so many breaks, in files of real source, with recompiles and compiles to match."""
    file = folder / "model.py"
    lines = [f"    hidden_{i} = layer_{i}(hidden_{i}, scale=weights[{i}].sum().item()) + {i}" for i in range(breaks)]
    file.write_text("def forward():\n" + "\n".join(lines) + "\n")
    found = []
    for i, line in enumerate(lines):
        start = line.index("weights")
        end = line.index(") +")
        mark = (start - 4, end - 4)
        place = SourceSpan(str(file), i + 2, "forward", line.strip(), mark, start + 1, end + 1)
        found.append(a_break(i, place))
    compiles = tuple(
        FrameCompile(f"{i}/0", "forward", str(file), 1, 0, i + 1 if i else None, False, "compiled", 1, 12, 30, 100.0 + i, 0.5,
                (StageTime("dynamo", 0.3), StageTime("xla", 0.2)), found[i - 1].fingerprint if i else None)
        for i in range(breaks)
    )  # fmt: skip
    guard = FailedGuard("tensor 'x' size mismatch at index 0. expected 3, actual 4", "size", "x", 0, "3", "4", "0/0")
    recompiles = tuple(
        Recompile(digest(("recompile", str(i))), "TPU201", "forward", found[i].place, found[i].excerpt, "size", "x", 0,
                  ("3", "4"), (guard,) * 3, (f"{i}/1",), (), 1, 8, Advice("dimension 0 of x changes", "Mark it."),
                  seconds(0.4))
        for i in range(breaks // 10)
    )  # fmt: skip
    return Report(ReportedRun("this process"), tuple(found), recompiles, compiles=compiles)


def hostile(folder: Path) -> Report:
    """A report whose every text from outside means harm."""
    file = folder / "mödel <b>.py"
    line = f"x = f({HOSTILE!r})  # " + "a" * 5000 + HOSTILE
    file.write_text("# " + HOSTILE.replace("\x1b", "") + "\n    " + line + "\n", encoding="utf-8")
    place = SourceSpan(str(file), 2, f"f{HOSTILE}", line, (4, 40), 9, 45)
    other = SourceSpan("<stdin>\udcff", 1, HOSTILE, HOSTILE, (0, len(HOSTILE)))
    guard = FailedGuard(HOSTILE, "other", HOSTILE, None, HOSTILE, HOSTILE)
    return Report(
        ReportedRun(f"trace{HOSTILE}", {"torch": HOSTILE}, (HOSTILE,), unknown_records={HOSTILE: 1}, damaged=1),
        (a_break(0, place, HOSTILE, stack=(other, place), own_place=other), a_break(1, other, HOSTILE)),
        (
            Recompile("r1", "TPU203", HOSTILE, other, None, "other", HOSTILE, None, (HOSTILE,), (guard,), ("0/1",), (),
                      1, 8, Advice(HOSTILE, HOSTILE), seconds(1.0)),
        ),
        (UnsupportedOperation("TPU101", HOSTILE, HOSTILE, HOSTILE, place),),
        (SkippedFrame("0/0", HOSTILE, str(file), 1, HOSTILE),),
        (Failure("0/0", HOSTILE, HOSTILE, place),),
        (CacheLookup(HOSTILE, "miss", 1, (HOSTILE,), (CacheMiss((HOSTILE,), HOSTILE, (HOSTILE,)),)),),
        (Fallback(HOSTILE, 1),),
        (Unrecorded(HOSTILE, 1),),
        (FrameCompile("0/0", HOSTILE, str(file), 1, None, None, False, "compiled", 1, 1, 1, 1.0, 1.0, (StageTime(HOSTILE, 1.0),)),),
    )  # fmt: skip
