"""Taking part in torch's AOTAutogradCache: when, under which tag, and what its entries lead to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import NoStableKey, UnsupportedOp

from .._torch_compat import CacheUse, forms_are_read, usable
from ..cache.settings import cache_settings
from ..cache.signature import Frame, conditions
from ..errors import CompilationFailed
from ..options import Options
from ..session import session
from .compile import compile_graph
from .compiled import CompiledGraph, DynamicGraph
from .lowering import Target
from .prepare import BoxedCallable
from .saved_values import SavedValues
from .specialise import revive
from .torch_entry import Record, SymbolicRecord, TorchEntry, reviving


def kept_by_torch(options: Options, target: Target, on_device: bool, rewritten: str = "") -> CacheUse | None:
    """Return how torch's cache is to be used with these options; None where it is not.

    Its entries name programs of our store and are useless without them, so they are kept where programs are. A frozen
    graph has no program before it is called. Who reads the forms of graphs wants those that are traced, too.
    rewritten: the name of what changes a graph after AOTAutograd.
    """
    settings = cache_settings(options)
    wanted = options.autograd_cache and options.dump_dir is None and not options.freeze and not forms_are_read()
    if not (wanted and settings.enabled and not settings.read_only and usable()):
        return None
    statistics = session().statistics
    try:
        parts = conditions(options, target.platform, on_device, target.fast_memory)
    except NoStableKey as why:
        statistics.count("autograd_cache", str(why))
        return None
    tag = hashlib.sha256(json.dumps([parts, rewritten] if rewritten else parts, sort_keys=True).encode()).hexdigest()
    return CacheUse(tag, lambda outcome: statistics.count("autograd_cache", outcome))


def compile_entry(
    options: Options,
    captured: Mapping[str, Callable[[], str]],
    frame: Frame,
    saved: SavedValues,
    role: str,
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
) -> TorchEntry:
    """Compile one graph, as `compile_graph` does, to something that torch's cache can keep.

    A backward graph is compiled before anybody calls it; if it cannot be, that is an error when it is called.
    """
    try:
        graph = compile_graph(options, captured, frame, saved, None, role, graph_module, example_inputs)
    except (UnsupportedOp, CompilationFailed) as error:
        if role != "backward":
            raise
        return _without_record(_raising(error), "its backward graph cannot be compiled")
    if isinstance(graph, DynamicGraph):
        if options.fallback != "error":
            return _without_record(graph, "its sizes change, and parts of it may run in eager PyTorch")
        return TorchEntry(graph.record, graph)
    if not isinstance(graph, CompiledGraph):
        return _without_record(graph, "a graph of it runs in eager PyTorch")
    if graph.record is None:
        return _without_record(graph, "a graph of it cannot be recognised by other processes")
    return TorchEntry(graph.record, graph)


def _without_record(graph: BoxedCallable, why: str) -> TorchEntry:
    session().statistics.count("autograd_cache", why)
    return TorchEntry(None, graph, why)


def _raising(error: Exception) -> BoxedCallable:
    def run(inputs: list[Any]) -> list[Any]:
        raise error

    return run


@contextmanager
def finding_programs(options: Options, captured: Sequence[str] = ()) -> Iterator[None]:
    """Let entries of torch's cache become graphs again within the context, with these options.

    captured: the names of the operations of the Dynamo graph that was looked up; empty where there was none.
    """

    saved = SavedValues()  # of the forward and the backward graph of one entry

    def find(record: Record) -> CompiledGraph | DynamicGraph | None:
        if isinstance(record, SymbolicRecord):
            return DynamicGraph.again(record, options, saved, captured)
        found = revive(record, options, captured)
        return CompiledGraph(found) if found is not None else None

    with reviving(find):
        yield
