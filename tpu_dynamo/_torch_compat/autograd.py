"""AOTAutograd, which makes functional ATen graphs of those that Dynamo captured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch._dynamo import disable
from torch._dynamo.utils import counters, flatten_graph_inputs
from torch._functorch import config as functorch_config
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch.fx import GraphModule

from tpu_dynamo_lowering import name_attention, own_definitions

from .autograd_cache import CacheUse
from .ranks import tracing_for_all_ranks
from .stages import Compilers, compile_in_stages

_PARTITIONERS = {"min_cut": min_cut_rematerialization_partition, "default": default_partition}


def _partition(partitioner: str, joint: GraphModule, *args: Any, **kwargs: Any) -> tuple[GraphModule, GraphModule]:
    """Cut a joint graph in two, in which attention with a soft cap is one operator that saves no scores."""
    name_attention(joint)
    return _PARTITIONERS[partitioner](joint, *args, **kwargs)


GraphCompiler = Callable[[GraphModule, Sequence[Any]], Callable[..., Any]]


def compile_with_aot_autograd(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    forward: GraphCompiler,
    backward: GraphCompiler,
    inference: GraphCompiler,
    partitioner: str = "min_cut",
    activation_memory_budget: float = 1.0,
    cache_use: CacheUse | None = None,
) -> Callable[..., Any]:
    """Compile a graph of Dynamo's by AOTAutograd and three compilers of its graphs; return a callable for Dynamo.

    partitioner, activation_memory_budget: as in tpu_dynamo.Options. cache_use: if torch's cache is used; the compilers
    then return OutputCodes. In the functional ATen graphs mutations of inputs are `copy_`s at the end. Composite
    operators are decomposed, no others: lowering decides on the rest, when sizes are numbers.
    """
    if any(isinstance(value, list | tuple | dict) for value in example_inputs):

        def flat(module: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
            return compile_with_aot_autograd(
                module,
                inputs,
                forward=forward,
                backward=backward,
                inference=inference,
                partitioner=partitioner,
                activation_memory_budget=activation_memory_budget,
            )

        return flatten_graph_inputs(graph_module, list(example_inputs), flat)

    def backward_undisturbed(module: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        compile_undisturbed: Any = disable(backward, reason="it compiles")
        return disable(compile_undisturbed(module, inputs), reason="it is compiled")

    counters["aot_autograd"]["total"] += 1
    compilers = Compilers(forward, backward_undisturbed, inference, partial(_partition, partitioner))
    budget = functorch_config.patch(activation_memory_budget=activation_memory_budget)
    with budget, _aot_logging(), own_definitions(), tracing_for_all_ranks():
        compiled = compile_in_stages(graph_module, list(example_inputs), compilers, cache_use)
    counters["aot_autograd"]["ok"] += 1
    return disable(compiled, reason="it is compiled")


def _aot_logging() -> contextlib.AbstractContextManager[Any]:
    # torch's own aot_autograd() does as we do, but imports Inductor's IR each time for this, which takes 0.3 s.
    if os.environ.get("TORCH_COMPILE_DEBUG") != "1":
        return contextlib.nullcontext()
    from torch._inductor.debug import enable_aot_logging

    return enable_aot_logging()


def static_inputs(graph_module: GraphModule, backward: bool) -> set[int]:
    """Return the positions of a graph's inputs that are a model's parameters and buffers, the same at every call.

    For a backward graph, of those that the forward graph saved.
    """
    context = TracingContext.try_get()
    metadata = context.fw_metadata if context is not None else None
    static = set(metadata.static_input_indices or ()) if metadata is not None else set()
    if not backward:
        return static
    names = [node.name for node in graph_module.graph.find_nodes(op="placeholder")]
    primals = {f"primals_{position + 1}" for position in static}
    return {i for i, name in enumerate(names) if name in primals}


def forward_returns() -> int:
    """Return how many outputs of the forward graph being compiled go to the caller; the others are saved."""
    metadata = TracingContext.get().fw_metadata
    assert metadata is not None
    return metadata.num_forward
