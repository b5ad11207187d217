"""The one door to PyTorch's AOTAutogradCache, in which torch stores AOTAutograd's results for graphs of Dynamo's.

torch's own way into that cache makes a key for Inductor: it imports Inductor's code generation and reads all of
torch's sources, 1.5 s in each process. So the key is made here, from everything that AOTAutograd depends on, by
torch's pickler for such keys; torch itself writes, finds and unwraps the entries and checks the guards on their sizes.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._functorch._aot_autograd.autograd_cache import (
    AOTAutogradCache,
    AOTAutogradCacheDetails,
    AOTAutogradCachePickler,
    BypassAOTAutogradCache,
    FXGraphCacheMiss,
    check_cacheable,
    create_fx_config,
    sanitize_gm_for_cache,
    should_use_local_autograd_cache,
    should_use_remote_autograd_cache,
)
from torch._functorch._aot_autograd.schemas import AOTAutogradCacheInfo, ViewAndMutationMeta
from torch._inductor.codecache import BypassFxGraphCache, FxGraphCache
from torch._inductor.output_code import OutputCode
from torch.fx import GraphModule

__all__ = [
    "BypassAOTAutogradCache",
    "CacheUse",
    "FXGraphCacheMiss",
    "OutputCode",
    "cache_info",
    "found",
    "key_of",
    "usable",
]

# Increased when the contents of a key, or of an OutputCode of ours, change.
_SCHEMA = "4"


@dataclass(frozen=True)
class CacheUse:
    """The use of torch's cache for one graph of Dynamo's.

    tag: a digest of everything of ours that decides what a graph becomes. report: called with `hit`, `miss`, or the
    reason why a graph can have no entry.
    """

    tag: str
    report: Callable[[str], None]


def usable() -> bool:
    """Return True if torch's settings allow its cache of AOTAutograd's results on this machine."""
    return should_use_local_autograd_cache()


def key_of(graph_module: GraphModule, inputs: Sequence[Any], config: Any, cache_use: CacheUse) -> str | None:
    """Return the entry's key for a graph of Dynamo's on fake inputs; None if no key could tell it from others."""
    with sanitize_gm_for_cache(graph_module):
        try:
            for module in graph_module.modules():
                if isinstance(module, GraphModule):
                    check_cacheable(module)
                    _refuse_constants(module)
                    _refuse_libraries(module)
            FxGraphCache._check_for_hop(graph_module)
            details = _Details(graph_module, inputs, config, create_fx_config())
            details.ours = (_SCHEMA, cache_use.tag)
            details.memories = _memories(inputs)
            details.ranges = _ranges(inputs)
            return "a" + _Pickler(graph_module).get_hash(details)
        except (BypassAOTAutogradCache, BypassFxGraphCache) as why:
            reason = " ".join(str(why).split())
        except (pickle.PicklingError, AttributeError, TypeError, NotImplementedError) as why:
            reason = f"the graph cannot be written down: {' '.join(str(why).split())}"
    counters["aot_autograd"]["autograd_cache_bypass"] += 1
    cache_use.report(reason)
    return None


def cache_info(key: str, inputs: list[Any]) -> AOTAutogradCacheInfo:
    """Return the AOTAutogradCacheInfo that makes torch store AOTAutograd's result under `key`."""
    return AOTAutogradCacheInfo(key, time.time_ns(), AOTAutogradCache._filter_backed_symints(inputs))


def _memories(inputs: Sequence[Any]) -> list[tuple[int, bool]]:
    """Return for each input tensor the index of the first with the same memory, and True if it is a view.

    AOTAutograd's treatment of inputs that a graph writes to depends on it; torch's own key, which has only each
    tensor's shape, strides and dtype, does not tell a pair of views from a pair of separate tensors.
    """
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    first: dict[int, int] = {}
    return [(first.setdefault(t.untyped_storage()._cdata, i), t._base is not None) for i, t in enumerate(tensors)]


def _ranges(inputs: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the bounds of the inputs that are symbols, as `mark_dynamic` sets them: they decide about branches."""
    symbols = [value.node for value in inputs if isinstance(value, torch.SymInt) and value.node.expr.is_Symbol]
    return [(str(node.expr), str(node.shape_env.var_to_range.get(node.expr))) for node in symbols]


def _refuse_constants(module: GraphModule) -> None:
    # torch's pickler writes a tensor's shape, not its values.
    for name, _ in (*module.named_parameters(), *module.named_buffers()):
        raise BypassAOTAutogradCache(f"the graph holds the tensor {name}")
    for node in module.graph.find_nodes(op="get_attr"):
        if not isinstance(getattr(module, str(node.target), None), GraphModule):
            raise BypassAOTAutogradCache(f"the graph holds the constant {node.target}")


# The libraries of PyTorch itself; the last one is PT2E's.
_TORCHS = ("aten", "prims", "prim", "_C", "quantized_decomposed")


def _refuse_libraries(module: GraphModule) -> None:
    # The code of such an operator and of its gradient is in no key.
    for node in module.graph.nodes:
        operator = getattr(node.target, "overloadpacket", node.target)
        name = getattr(operator, "_qualified_op_name", "aten::")
        if name.partition("::")[0] not in _TORCHS:
            raise BypassAOTAutogradCache(f"{name} is an operator of a library")


class _Pickler(AOTAutogradCachePickler):
    """Torch's pickler for keys, with the same words in every process.

    A memory format or quantisation scheme is pickled as a name, for which `pickle` looks through all modules in the
    order of their import. The first that has `torch` may be the user's own, or `__mp_main__` of a spawned process. And
    torch pickles what is inside of a tensor subclass with references to objects that are the same in memory.
    """

    def __init__(self, graph_module: GraphModule):
        super().__init__(graph_module)
        self._graph_module = graph_module
        self.dispatch_table = {**self.dispatch_table, torch.memory_format: _by_words, torch.qscheme: _by_words}

    def _hash_pickled_value_for_cache(self, value: Any) -> str:
        return _Pickler(self._graph_module).get_hash(value)


def _by_words(each: Any) -> tuple[type[str], tuple[str]]:
    return str, (str(each),)


class _Details(AOTAutogradCacheDetails):
    """The contents of a key: everything that AOTAutograd depends on, and nothing of Inductor."""

    ours: tuple[str, str]
    memories: list[tuple[int, bool]]
    ranges: list[tuple[str, str]]

    def _init_fx_graph_hash_details(self, gm: GraphModule, example_inputs: Sequence[Any], fx_config: Any) -> None:
        self.gm = gm
        self.example_inputs = list(example_inputs)
        self.modes = (
            torch.is_inference_mode_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
            str(torch.get_default_device()),
            torch._C._get_mkldnn_enabled(),
            # Which operator attention becomes.
            torch._C._get_flash_sdp_enabled(),
            torch._C._get_mem_efficient_sdp_enabled(),
            torch._C._get_math_sdp_enabled(),
            torch._C._get_cudnn_sdp_enabled(),
            torch._C._get_overrideable_sdp_enabled(),
        )


def found(
    key: str, inputs: list[Any], config: Any, cache_use: CacheUse
) -> tuple[Callable[..., Any], ViewAndMutationMeta] | None:
    """Return the callable of an entry, which takes a list of inputs, and AOTAutograd's metadata; None without entry."""
    remote = should_use_remote_autograd_cache()
    entry = AOTAutogradCache._lookup(key, True, remote, inputs, {}, config)
    compiled: Any = None
    try:
        if entry is not None:
            compiled = entry[0].wrap_post_compile(inputs, config, create_fx_config()), entry[0].runtime_metadata
    except FXGraphCacheMiss:
        pass  # the entry's programs are no longer there
    except Exception as why:  # noqa: BLE001  (what torch unpickled and its wrappers can raise anything)
        cache_use.report(f"an entry cannot be used: {type(why).__name__}: {' '.join(str(why).split())[:200]}")
    outcome = "miss" if compiled is None else "hit"
    counters["aot_autograd"][f"autograd_cache_{outcome}"] += 1
    cache_use.report(outcome)
    return compiled
