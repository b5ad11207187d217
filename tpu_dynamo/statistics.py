"""Counts of what the backend did in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tpu_dynamo_runtime import StageClock, Traffic, html_table
from tpu_dynamo_runtime.store import Faults

from ._torch_compat.compile_times import capture_seconds

# The stages of the time to a first result, in the order in which a graph goes through them.
IMPORTS, CAPTURE, AUTOGRAD, READING, LOWERING = "imports", "capture", "autograd", "reading", "lowering"
KERNELS, XLA, LOADING, EXECUTION = "kernels", "xla", "loading", "first execution"
STAGES = (IMPORTS, CAPTURE, AUTOGRAD, READING, LOWERING, KERNELS, XLA, LOADING, EXECUTION)


@dataclass(frozen=True)
class Snapshot:
    """The counts at one moment.

    graphs: FX graphs that were compiled, by role: `forward`, `backward`, `inference`, and `step` of train_step.
    lowerings: graphs taken to StableHLO, one for each set of concrete sizes. xla_compiles: programs compiled. Both
    count the programs of eager operators on the device as well.
    cache_hits, cache_misses: by level. At level `signature` a graph's program is found, at `memory` a program's
    executable in this process, at `disk` and `remote` a stored one, at `job` one that
    another rank compiled. cache_faults: faults of the cache, by the names of docs/caching.md.
    autograd_cache: graphs of Dynamo's for which torch's cache had AOTAutograd's result, `hit`, had none, `miss`, or can
    have none, by the reason.
    precompile: models of tpu_dynamo.precompile whose frame was stored, `hit`, was not, `miss`, or cannot be used, by
    the reason.
    buckets: programs for padded sizes, `padded`; those that threads compiled ahead, `compiled ahead`, and why others
    were not; calls that they served, `calls`; and graphs that are compiled for each
    size though buckets are asked for, by the reason.
    executions: runs of executables. bytes_to_device, bytes_to_host: bytes copied; memory that host and device
    share is not counted. donations: buffers of inputs whose memory new values took over. donations_refused: how often
    new values needed memory of their own, by the reason. fallbacks: graphs that ran in eager PyTorch, by the reason.
    checks: calls of graphs that options["check"] compared with eager operators, by the verdict: `right`, `wrong`, and
    others of `tpu_dynamo.check`.
    seconds: what led to first results, by stage (docs/first_second.md), each without the stages that it called.
    operator_calls: calls of operators that ran in eager between compiled parts of their graphs, by the operator and the
    user's line; operator_bytes: of the tensors that went in and came out; operator_seconds: what they took.
    """

    graphs: dict[str, int] = field(default_factory=dict)
    lowerings: int = 0
    xla_compiles: int = 0
    cache_hits: dict[str, int] = field(default_factory=dict)
    cache_misses: dict[str, int] = field(default_factory=dict)
    cache_faults: dict[str, int] = field(default_factory=dict)
    autograd_cache: dict[str, int] = field(default_factory=dict)
    precompile: dict[str, int] = field(default_factory=dict)
    buckets: dict[str, int] = field(default_factory=dict)
    executions: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    donations: int = 0
    donations_refused: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    operator_calls: dict[str, int] = field(default_factory=dict)
    operator_bytes: dict[str, int] = field(default_factory=dict)
    operator_seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the counts as plain data, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.as_dict().items())

    def _repr_html_(self) -> str:
        """Return the counts that are not zero for a notebook."""
        rows: list[tuple[str, str, int | float]] = []
        for name, value in asdict(self).items():
            kinds: dict[str, int | float] = value if isinstance(value, dict) else {"": value}
            rows += [(name, kind, count) for kind, count in kinds.items() if count]
        return html_table(("count", "of", ""), rows)


class Statistics:
    """The running counts of a process; compile-time counts are thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.traffic = Traffic()
        self.faults = Faults()
        self.clock = StageClock()
        self._earlier_capture = 0.0
        self._earlier_faults: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._by_key: dict[str, Counter[str]] = {}
        self._padded: dict[str, dict[str, Any]] = {}

    def count(self, what: str, key: str | None = None) -> None:
        """Add one to `what`, a field of Snapshot; `key` is the entry where that field is a dict."""
        with self._lock:
            if key is None:
                self._totals[what] += 1
            else:
                self._by_key.setdefault(what, Counter())[key] += 1

    def count_operator(self, operator: str, nbytes: int, seconds: float) -> None:
        """Count a call of an operator in eager between compiled parts: what moved in and out, and what it took."""
        with self._lock:
            for what, amount in (("operator_calls", 1), ("operator_bytes", nbytes), ("operator_seconds", seconds)):
                counter: Counter[Any] = self._by_key.setdefault(what, Counter())
                counter.update({operator: amount})

    def count_padded(self, key: str, described: Mapping[str, Any]) -> int:
        """Add one to the calls that a program of a bucket served with one set of sizes; return how many there were."""
        with self._lock:
            self._by_key.setdefault("buckets", Counter())["calls"] += 1
            found = self._padded.setdefault(key, {**described, "calls": 0})
            found["calls"] += 1
            return found["calls"]

    def padded_calls(self) -> dict[str, dict[str, Any]]:
        """Return by key the sets of sizes that programs of buckets served, as described, with their calls."""
        with self._lock:
            return {key: dict(found) for key, found in self._padded.items()}

    def snapshot(self) -> Snapshot:
        """Return the counts at this moment."""
        with self._lock:
            counts: dict[str, Any] = {**asdict(self.traffic), **self._totals}
            counts |= {what: dict(counter) for what, counter in self._by_key.items()}
            counts["cache_faults"] = dict(Counter(self.faults.counts()) - self._earlier_faults)
            counts["seconds"] = self._seconds()
            return Snapshot(**counts)

    def seconds_since(self, before: Mapping[str, float]) -> dict[str, float]:
        """Return the seconds of the backend's own stages since a moment, to which `before` belongs."""
        now = self.clock.seconds()
        own = (READING, LOWERING, KERNELS, XLA, LOADING)
        return {s: taken for s in own if (taken := now.get(s, 0.0) - before.get(s, 0.0)) > 0}

    def _seconds(self) -> dict[str, float]:
        found = self.clock.seconds()
        if (capture := capture_seconds() - self._earlier_capture) > 0 and found:
            found[CAPTURE] = capture
        return {stage: found[stage] for stage in STAGES if stage in found}

    def after_fork(self) -> None:
        """Take a new lock in a forked child: a thread that stayed in the parent may hold the old one."""
        self._lock = threading.Lock()
        self.clock.after_fork()

    def reset(self) -> None:
        """Set every count to zero; executables go on counting into the same object."""
        with self._lock:
            self._totals.clear()
            self._by_key.clear()
            self._padded.clear()
            self._earlier_faults = Counter(self.faults.counts())
            self._earlier_capture = capture_seconds()
            self.clock.reset()
            for name, zero in asdict(Traffic()).items():
                setattr(self.traffic, name, zero)
