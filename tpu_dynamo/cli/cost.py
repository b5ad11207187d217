"""`tpu-dynamo cost`: what a model will cost on a target, by line of its source."""

from __future__ import annotations

import contextlib
import linecache
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpu_dynamo.formatting import format_bytes

from .compile import cost_data, memory_data
from .console import cut, print_json, results, say, table, waiting
from .exit_codes import ExitCode, end, refuse
from .factory_graphs import Factory, Init, MeshSizes, Optimizer, Target, Training, build, mesh_of
from .shared_options import Json, NoProgress
from .user_code import load

if TYPE_CHECKING:
    from tpu_dynamo import TargetGraph


# Lines of communication that are shown.
_LINES = 8


@dataclass
class _Line:
    """A line of source with its sums over the graphs. cycles: 0 where XLA estimates none."""

    cycles: int = 0
    nbytes: int = 0


def cost(
    factory: Factory,
    target: Target,
    training: Training = False,
    mesh: MeshSizes = None,
    optimizer: Optimizer = None,
    init: Init = "random",
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many lines to show; --json has all.")] = 20,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Print a model's source with cycles and bytes for each line, the dearest first, and whether it fits the chip.

    For each graph it says what is in memory when most is, and what would need less (docs/memory.md). The figures are
    XLA's estimates (docs/tpu_without_a_tpu.md). Exits with 1 when the model does not fit.
    """
    sizes = mesh_of(mesh)
    with waiting(f"building {factory}", not no_progress):
        if sizes is None:
            built, calling = build(factory, init)
            model, (args, kwargs) = built.model, built.walks[0][0]
        else:
            model, args, kwargs, calling = load(factory), (), {}, contextlib.nullcontext()
        make = None if optimizer is None else load(optimizer)
        from tpu_dynamo.ahead_of_time.target_graphs import compile_for
        from tpu_dynamo.distributed.imagined_job import MeshError
    with waiting(f"compiling {factory} for {target}", not no_progress), calling:
        try:
            graphs = compile_for(
                model, args, kwargs, target=target, mesh=sizes, training=training, optimizer=make, explain=True
            )
        except MeshError as error:
            refuse(str(error))
    fitting = [graph for graph in graphs if graph.memory.fits is not False]
    if json:
        print_json([_data(graph) for graph in graphs])
    else:
        _show(graphs, fitting, top)
    if len(fitting) < len(graphs):
        end(ExitCode.FINDINGS)


def _data(graph: TargetGraph) -> dict[str, Any]:
    if graph.memory.fits is not False:
        return {**cost_data(graph), **_peak_data(graph)}
    # XLA gives no executable, so there is nothing to estimate.
    return {
        "graph": graph.name,
        "role": graph.role,
        "target": graph.target,
        "memory": memory_data(graph),
        "fits": False,
        **_peak_data(graph),
    }


def _peak_data(graph: TargetGraph) -> dict[str, Any]:
    """Return what is in memory at a graph's peak, None where XLA does not say, and what would need less."""
    return {
        "peak": graph.peak and graph.peak.as_dict(),
        "remedies": [{"what": each.what, "bytes": each.gain, "how": each.how} for each in graph.remedies],
    }


def _show(graphs: Sequence[TargetGraph], fitting: Sequence[TargetGraph], top: int) -> None:
    lines: defaultdict[tuple[str | None, int | None], _Line] = defaultdict(_Line)
    for graph in fitting:
        for row in graph.cost.by_line():
            line = lines[row.file, row.line]
            line.cycles += row.cycles or 0
            line.nbytes += row.bytes_accessed
    estimated = any(graph.cost.cycles is not None for graph in fitting)
    ranked = sorted(lines.items(), key=lambda item: (-item[1].cycles, -item[1].nbytes))
    whole = _Line(sum(line.cycles for _, line in ranked), sum(line.nbytes for _, line in ranked))
    if ranked:
        shown = table(
            "CYCLES", "SHARE", "BYTES", "LINE", "SOURCE", right=("CYCLES", "SHARE", "BYTES"), flexible="SOURCE"
        )
        for (file, number), line in ranked[:top]:
            share = line.cycles / whole.cycles if whole.cycles else line.nbytes / max(whole.nbytes, 1)
            place = f"{os.path.basename(file)}:{number}" if file else ""
            source = linecache.getline(file, number or 0).strip() if file else "(what belongs to no line)"
            cycles = f"{line.cycles:,}" if estimated else ""
            shown.add_row(cycles, f"{share:.1%}", format_bytes(line.nbytes), place, cut(source))
        results().print(shown)
        if len(ranked) > top:
            say(f"{len(ranked) - top} more lines: --top {len(ranked)}")
    _show_graphs(graphs)
    _show_peaks(graphs)
    _show_communication(fitting)
    costs = [graph.cost for graph in fitting]
    _say("without an estimate, and in no cycles", [cost.unestimated for cost in costs])
    _say("cycles by a kernel's own CostEstimate, not by libtpu", [cost.kernels for cost in costs])
    _say("libtpu's own kernels, counted as the operations that they stand for", [cost.replaced for cost in costs])


def _show_peaks(graphs: Sequence[TargetGraph]) -> None:
    """Print what is in memory when most is, for the graphs of which XLA says it."""
    from tpu_dynamo.peaks.words import peak_in_words

    for graph in graphs:
        if graph.peak is not None:
            results().print()
            results().print(f"at the peak of {graph.name}", highlight=False, markup=False)
            words = peak_in_words(graph.peak, graph.remedies, graph.memory.available)
            results().print(words, highlight=False, markup=False, soft_wrap=True)


def _show_communication(graphs: Sequence[TargetGraph]) -> None:
    """Print what graphs over several chips exchange, along which axis of the mesh and for which line."""
    for graph in graphs:
        if (found := graph.communication) is None:
            continue
        shown = table("ALONG", "BYTES", "TIME", "COLLECTIVES", right=("BYTES", "TIME", "COLLECTIVES"))
        for axes, each in found.by_axis().items():
            shown.add_row(axes, format_bytes(each.nbytes), f"{each.seconds * 1e3:,.2f} ms", f"{each.count:,}")
        for place, each in list(found.by_line().items())[:_LINES]:
            where = "(no line)" if place is None else f"{os.path.basename(place[0])}:{place[1]}"
            shown.add_row(f"  {where}", format_bytes(each.nbytes), f"{each.seconds * 1e3:,.2f} ms", f"{each.count:,}")
        (best, worst), (low, high) = found.step, found.share
        console = results()
        console.print()
        console.print(shown)
        say(
            f"{graph.name}: {best * 1e3:,.2f} to {worst * 1e3:,.2f} ms a run, of which {low:.0%} to {high:.0%} waits "
            "for other chips: all communication behind computations, or none"
        )


def _say(what: str, found: Sequence[Mapping[str, int]]) -> None:
    total = sum(map(Counter, found), Counter())
    if total:
        say(f"{what}: {', '.join(f'{count:,} {kind}' for kind, count in total.most_common())}")


def _show_graphs(graphs: Sequence[TargetGraph]) -> None:
    shown = table(
        "GRAPH", "CYCLES", "BYTES", "FLOPS", "MEMORY", "OF", "FITS", right=("CYCLES", "BYTES", "FLOPS", "MEMORY", "OF")
    )
    words = {True: "yes", False: "no", None: "not known"}
    for graph in graphs:
        memory = graph.memory
        figures = [""] * 3
        if memory.fits is not False:
            cost = graph.cost
            cycles = "" if cost.cycles is None else f"{cost.cycles:,}"
            figures = [cycles, format_bytes(cost.bytes_accessed), f"{cost.flops:,}"]
        available = "" if memory.available is None else format_bytes(memory.available)
        shown.add_row(graph.name, *figures, format_bytes(memory.total), available, words[memory.fits])
    console = results()
    console.print()
    console.print(shown)
