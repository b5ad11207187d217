"""The report as plain frozen data; every view renders it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Origin = Literal["own", "library", "python", "torch"]
BreakKind = Literal["fundamental", "supportable", "user", "caused"]
BreakOutcome = Literal["resumed", "partial", "skipped"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SourceSpan:
    """A stretch of one source line.

    line, column, end_column: counted from 1, in characters; the end is exclusive; columns are None where they are not
    known. text: the line without its indentation. mark: the stretch as offsets in `text`. origin: whose file it is:
    the user's own, an installed library's, the Python library's or torch's.
    """

    file: str
    line: int
    function: str = ""
    text: str = ""
    mark: tuple[int, int] | None = None
    column: int | None = None
    end_column: int | None = None
    origin: Origin = "own"


@dataclass(frozen=True)
class Excerpt:
    """Lines of a source file around a place."""

    first_line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Quantity:
    """A number and where it comes from: measured, or estimated from `basis`."""

    value: float
    unit: str
    measured: bool
    basis: str


@dataclass(frozen=True)
class Advice:
    """Advice on a change, with the pattern before and after it; the snippets are not the user's code."""

    title: str
    text: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class BreakCost:
    """The cost of one break.

    extra_graphs: graphs that exist only because of it. compile_time: of everything compiled behind it. retrace_time:
    tracing that was thrown away. saving: the compile time that is saved when the break is removed; the operations
    behind it still have to be compiled, in a larger graph. bytes_crossing: data that leaves one graph for the next.
    """

    extra_graphs: Quantity
    compile_time: Quantity
    retrace_time: Quantity
    saving: Quantity
    bytes_crossing: Quantity | None = None


@dataclass(frozen=True)
class Break:
    """One place where a frame was cut, however often it was met.

    fingerprint: stays the same when lines move. code: torch's number of the kind of break, as GB0170, or `GB` where
    its registry knows none. place: the innermost line that is the user's or a library's. own_place: the innermost
    line of the user's own, where `place` is a library's. outcome: `resumed` behind the break; `partial`: what is
    before it was compiled, the rest of the function stays in eager; `skipped`: all of it does. followed_by: what the
    break led to, as `graph break in loop`. caused_by: the fingerprint of the earlier break that this one follows
    from. met: how many attempts at compiling met it.
    """

    fingerprint: str
    code: str
    gb_type: str
    kind: BreakKind
    page: str | None
    place: SourceSpan
    own_place: SourceSpan | None
    excerpt: Excerpt | None
    stack: tuple[SourceSpan, ...]
    explanation: str
    hints: tuple[str, ...]
    context: str
    outcome: BreakOutcome
    followed_by: str | None
    caused_by: str | None
    met: int
    compiles: tuple[str, ...]
    ranks: tuple[int, ...]
    advice: Advice | None
    cost: BreakCost


@dataclass(frozen=True)
class FailedGuard:
    """One guard that did not hold, as Dynamo wrote it and in parts.

    kind: what it checks: size, stride, rank, dtype, device, requires_grad, dispatch_keys, value, type, identity,
    length, keys, global_state, aliasing, shape_expression, expired, other. source: the value in Python's terms.
    entry: the compile whose result the guard protects.
    """

    text: str
    kind: str
    source: str | None = None
    dimension: int | None = None
    expected: str | None = None
    actual: str | None = None
    entry: str | None = None
    place: SourceSpan | None = None


@dataclass(frozen=True)
class Recompile:
    """One cause of recompiles of one function, with every guard that failed.

    code: ours (TPU201 ...). guards: the failed guards of all entries, the cause first. values: what the guarded value
    was seen to be. compiles: the compiles that it caused. so_far, limit: how many recompiles the function has had in
    all, and how many Dynamo allows.
    """

    fingerprint: str
    code: str
    function: str
    place: SourceSpan
    excerpt: Excerpt | None
    kind: str
    source: str | None
    dimension: int | None
    values: tuple[str, ...]
    guards: tuple[FailedGuard, ...]
    compiles: tuple[str, ...]
    ranks: tuple[int, ...]
    so_far: int
    limit: int
    advice: Advice
    compile_time: Quantity


@dataclass(frozen=True)
class StageTime:
    """The time of one stage of one compile."""

    name: str
    seconds: float


@dataclass(frozen=True)
class FrameCompile:
    """One compile of one frame.

    id: Dynamo's, as `2/0`, with the process before it where there are several. resumes: the line behind whose break
    the frame goes on, for the functions that Dynamo makes. outcome: `compiled`, `empty` (no operation in it),
    `skipped` (stays in eager after a break), `failed` (an error), `unfinished` (the records end before it does).
    caused_by: the fingerprint of the break that made this compile necessary.
    """

    id: str
    function: str
    file: str
    line: int
    rank: int | None
    resumes: int | None
    recompile: bool
    outcome: Literal["compiled", "empty", "skipped", "failed", "unfinished"]
    graphs: int
    operations: int
    guards: int
    started: float
    seconds: float
    stages: tuple[StageTime, ...]
    caused_by: str | None = None


@dataclass(frozen=True)
class UnsupportedOperation:
    """An operation or input that the backend refused; `code` is ours."""

    code: str
    operation: str
    why: str
    hint: str
    place: SourceSpan | None
    count: int = 1


@dataclass(frozen=True)
class SkippedFrame:
    """A function that Dynamo left in eager PyTorch, and why."""

    compile: str
    function: str
    file: str
    line: int
    why: str


@dataclass(frozen=True)
class Failure:
    """A compile that ended in an error other than a break."""

    compile: str
    kind: str
    message: str
    place: SourceSpan | None


@dataclass(frozen=True)
class CacheMiss:
    """Graphs that were not in the cache for one reason.

    owners: the functions whose graphs they are, as `Net, backward`. summary: the reason in one line; `new` where
    nothing similar was kept. reasons: what differs exactly from the most similar entry of each.
    """

    owners: tuple[str, ...]
    summary: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class CacheLookup:
    """The number of lookups in one level of the cache with one outcome, and the reasons, exact and in short."""

    level: str
    outcome: Literal["hit", "miss"]
    count: int
    reasons: tuple[str, ...] = ()
    misses: tuple[CacheMiss, ...] = ()


@dataclass(frozen=True)
class Fallback:
    """A reason for which graphs ran in eager PyTorch, and how many did."""

    reason: str
    count: int


@dataclass(frozen=True)
class OperatorCalls:
    """An operator that ran in eager between compiled parts of its graph: where, how often, and what it cost.

    bytes_moved: of the tensors that went in and came out.
    """

    operator: str
    calls: int
    bytes_moved: int
    seconds: float


@dataclass(frozen=True)
class SizeCalls:
    """The calls with one size of a dimension, and the bucket that served them."""

    size: int
    calls: int
    bucket: int


@dataclass(frozen=True)
class BucketUse:
    """A dimension of a function's inputs that was padded.

    dimension: as the option names it, `tokens[1]`. padding: the share of it that was padding over all calls, from 0 to
    1. elements, padded_elements: of the function's padded inputs in all calls, the true ones and all. better: as many
    buckets that would have padded less, with their share, and the line to write; empty where that is little.
    """

    function: str
    dimension: str
    buckets: tuple[int, ...]
    sizes: tuple[SizeCalls, ...]
    padding: float
    elements: int
    padded_elements: int
    better: tuple[int, ...] = ()
    better_padding: float | None = None
    line: str = ""


@dataclass(frozen=True)
class CheckedCalls:
    """Calls of a graph that were compared with eager operators, of one verdict of `tpu_dynamo.check`.

    operators, why, place: of the first of them, what is at fault, in words, and where; or why it was not compared.
    """

    graph: str
    verdict: str
    calls: int
    operators: tuple[str, ...] = ()
    why: str = ""
    place: SourceSpan | None = None


@dataclass(frozen=True)
class Unrecorded:
    """A break that Dynamo counted without leaving a record of where it was."""

    gb_type: str
    count: int


@dataclass(frozen=True)
class ReportedRun:
    """The run that the report is about.

    source: `this process`, or the trace's folder or file. unknown_records: record kinds this version does not know,
    with their numbers. damaged: lines of trace files that could not be read.
    """

    source: str
    versions: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    processes: int = 1
    seconds: float | None = None
    records: int = 0
    unknown_records: dict[str, int] = field(default_factory=dict)
    damaged: int = 0


@dataclass(frozen=True)
class Report:
    """Everything that is known about one run."""

    run: ReportedRun
    breaks: tuple[Break, ...] = ()
    recompiles: tuple[Recompile, ...] = ()
    unsupported: tuple[UnsupportedOperation, ...] = ()
    skipped: tuple[SkippedFrame, ...] = ()
    failures: tuple[Failure, ...] = ()
    cache: tuple[CacheLookup, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    unrecorded: tuple[Unrecorded, ...] = ()
    compiles: tuple[FrameCompile, ...] = ()
    operator_calls: tuple[OperatorCalls, ...] = ()
    buckets: tuple[BucketUse, ...] = ()
    not_padded: tuple[UnsupportedOperation, ...] = ()
    checks: tuple[CheckedCalls, ...] = ()
    schema_version: int = SCHEMA_VERSION
