"""The one door to PyTorch's AOTAutogradCache: what AOTAutograd made of a graph of Dynamo's, kept by torch for later.

torch's own way into that cache makes a key for Inductor: it imports Inductor's code generation and reads all of
torch's sources, 1.5 s in each process. So the key is made here, from what AOTAutograd depends on, by torch's pickler
for such keys; the entries, how they are written, found and unwrapped, and the guards on their sizes are torch's.
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

__all__ = ["BypassAOTAutogradCache", "FXGraphCacheMiss", "Kept", "OutputCode", "for_entry", "found", "key_of", "usable"]

# Raised when what is in a key, or in an OutputCode of ours, changes.
_SCHEMA = "2"


@dataclass(frozen=True)
class Kept:
    """How torch's cache is used.

    tag: a digest of everything of ours that decides what a graph becomes. told: is told `hit`, `miss`, or why a graph
    can have no entry.
    """

    tag: str
    told: Callable[[str], None]


def usable() -> bool:
    """Whether torch's settings allow its cache of AOTAutograd's results on this machine."""
    return should_use_local_autograd_cache()


def key_of(graph_module: GraphModule, inputs: Sequence[Any], config: Any, kept: Kept) -> str | None:
    """The entry's name for a graph of Dynamo's on fake inputs; None for one that no key could tell from others."""
    with sanitize_gm_for_cache(graph_module):
        try:
            for module in graph_module.modules():
                if isinstance(module, GraphModule):
                    check_cacheable(module)
                    _refuse_constants(module)
                    _refuse_libraries(module)
            FxGraphCache._check_for_hop(graph_module)
            details = _Details(graph_module, inputs, config, create_fx_config())
            details.ours = (_SCHEMA, kept.tag)
            details.memories = _memories(inputs)
            return "a" + AOTAutogradCachePickler(graph_module).get_hash(details)
        except (BypassAOTAutogradCache, BypassFxGraphCache) as why:
            reason = " ".join(str(why).split())
        except (pickle.PicklingError, AttributeError, TypeError, NotImplementedError) as why:
            reason = f"the graph cannot be written down: {' '.join(str(why).split())}"
    counters["aot_autograd"]["autograd_cache_bypass"] += 1
    kept.told(reason)
    return None


def for_entry(key: str, inputs: list[Any]) -> AOTAutogradCacheInfo:
    """What AOTAutograd's configuration has for what comes out to become the entry `key`."""
    return AOTAutogradCacheInfo(key, time.time_ns(), AOTAutogradCache._filter_backed_symints(inputs))


def _memories(inputs: Sequence[Any]) -> list[tuple[int, bool]]:
    """For each input tensor the first that has the same memory, and whether it is a view of another tensor.

    What AOTAutograd makes of inputs that a graph writes to depends on it; torch's own key, which has only each tensor's
    shape, strides and dtype, takes a pair of views and a pair of separate tensors for the same.
    """
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    first: dict[int, int] = {}
    return [(first.setdefault(t.untyped_storage()._cdata, i), t._base is not None) for i, t in enumerate(tensors)]


def _refuse_constants(module: GraphModule) -> None:
    # torch's pickler tells of a tensor its shape, not its values.
    for name, _ in (*module.named_parameters(), *module.named_buffers()):
        raise BypassAOTAutogradCache(f"the graph holds the tensor {name}")
    for node in module.graph.find_nodes(op="get_attr"):
        if not isinstance(getattr(module, str(node.target), None), GraphModule):
            raise BypassAOTAutogradCache(f"the graph holds the constant {node.target}")


def _refuse_libraries(module: GraphModule) -> None:
    # What such an operator and its gradient are is code that no key knows.
    for node in module.graph.nodes:
        operator = getattr(node.target, "overloadpacket", node.target)
        name = getattr(operator, "_qualified_op_name", "aten::")
        if name.partition("::")[0] not in ("aten", "prims", "prim", "_C"):
            raise BypassAOTAutogradCache(f"{name} is an operator of a library")


class _Details(AOTAutogradCacheDetails):
    """What AOTAutograd depends on; of Inductor nothing."""

    ours: tuple[str, str]
    memories: list[tuple[int, bool]]

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
    key: str, inputs: list[Any], config: Any, kept: Kept
) -> tuple[Callable[..., Any], ViewAndMutationMeta] | None:
    """What an entry holds, ready to be called with a list of inputs; and what AOTAutograd knew of the graph."""
    remote = should_use_remote_autograd_cache()
    entry = AOTAutogradCache._lookup(key, True, remote, inputs, {}, config)
    compiled: Any = None
    try:
        if entry is not None:
            compiled = entry[0].wrap_post_compile(inputs, config, create_fx_config()), entry[0].runtime_metadata
    except FXGraphCacheMiss:
        pass  # the entry's programs are no longer there
    except Exception as why:  # noqa: BLE001  (what torch unpickled and its wrappers can raise anything)
        kept.told(f"an entry cannot be used: {type(why).__name__}: {' '.join(str(why).split())[:200]}")
    outcome = "miss" if compiled is None else "hit"
    counters["aot_autograd"][f"autograd_cache_{outcome}"] += 1
    kept.told(outcome)
    return compiled
