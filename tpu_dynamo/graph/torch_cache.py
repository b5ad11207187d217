"""Taking part in torch's AOTAutogradCache: when, under which tag, and what its entries lead to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import NoStableKey, UnsupportedOp
from tpu_dynamo_runtime import Client, client

from .._torch_compat import Kept, forms_are_read, usable
from ..cache.settings import cache_settings
from ..cache.signature import conditions
from ..errors import CompilationFailed
from ..options import Options
from ..session import session
from .compiled import CompiledGraph, EagerGraph, Run
from .frozen import FrozenGraph
from .inputs import client_of_tensors
from .specialise import revive
from .torch_entry import GraphRecord, StoredGraph, reviving

# Compiles one graph: the graph and its inputs in, a callable out.
Compile = Callable[[GraphModule, Sequence[Any]], CompiledGraph | EagerGraph | FrozenGraph]


def kept_by_torch(options: Options, device: Client, on_device: bool) -> Kept | None:
    """How torch's cache is to be used with these options; None where it is not.

    Its entries name programs of our store and are useless without them, so they are kept where programs are. A frozen
    graph has no program before it is called. Who reads the forms of graphs wants those that are traced, too.
    """
    settings = cache_settings(options)
    wanted = options.autograd_cache and options.dump_dir is None and not options.freeze and not forms_are_read()
    if not (wanted and settings.enabled and not settings.read_only and usable()):
        return None
    statistics = session().statistics
    try:
        parts = conditions(options, device.platform, donates=on_device)
    except NoStableKey as why:
        statistics.count("autograd_cache", str(why))
        return None
    tag = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Kept(tag, lambda outcome: statistics.count("autograd_cache", outcome))


def storable(role: str, compile_graph: Compile) -> Callable[[GraphModule, Sequence[Any]], StoredGraph]:
    """A compiler of graphs whose results torch's cache can keep.

    A backward graph is compiled before anybody calls it; if it cannot be, that is an error when it is called.
    """

    def compiled(graph_module: GraphModule, example_inputs: Sequence[Any]) -> StoredGraph:
        try:
            graph = compile_graph(graph_module, example_inputs)
        except (UnsupportedOp, CompilationFailed) as error:
            if role != "backward":
                raise
            return _left_out(_raising(error), "its backward graph cannot be compiled")
        if not isinstance(graph, CompiledGraph):
            return _left_out(graph, "a graph of it runs in eager PyTorch")
        if graph.has_sizes:
            return _left_out(graph, "its sizes change")
        if graph.record is None:
            return _left_out(graph, "a graph of it cannot be recognised by other processes")
        return StoredGraph(graph.record, graph)

    return compiled


def _left_out(graph: Run, why: str) -> StoredGraph:
    session().statistics.count("autograd_cache", why)
    return StoredGraph(None, graph, why)


def _raising(error: Exception) -> Run:
    def run(inputs: list[Any]) -> list[Any]:
        raise error

    return run


@contextmanager
def finding_programs(options: Options) -> Iterator[None]:
    """Within it, what torch's cache has kept becomes graphs again, with these options."""

    def find(record: GraphRecord) -> Run | None:
        device = client_of_tensors(options) if record.on_device else client(options.target)
        run = revive(device, options, record)
        if run is None:
            return None
        session().statistics.count("graphs", record.role)
        return CompiledGraph.of(run)

    with reviving(find):
        yield
