"""The stages of AOTAutograd, as in torch's aot_module_simplified, after a look into its cache under a key of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch._dynamo import compiled_autograd
from torch._dynamo.utils import GmWrapper
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd.graph_compile import aot_stage1_graph_capture, aot_stage2_compile
from torch._functorch._aot_autograd.runtime_wrappers import SerializableCompiledFunction
from torch._functorch._aot_autograd.schemas import SerializableAOTDispatchCompiler, ViewAndMutationMeta
from torch._functorch.aot_autograd import create_aot_state, prepare_aot_module_simplified
from torch.fx import GraphModule

from .aliases import refuse_reread_aliases
from .autograd_cache import CacheUse, OutputCode, cache_info, found, key_of
from .frames import input_name


@dataclass(frozen=True)
class Compilers:
    """The compilers that AOTAutograd calls with its graphs, and the function that cuts a training graph in two."""

    forward: Callable[[GraphModule, Sequence[Any]], Any]
    backward: Callable[[GraphModule, Sequence[Any]], Any]
    inference: Callable[[GraphModule, Sequence[Any]], Any]
    partition: Callable[..., Any]


def compile_in_stages(
    graph_module: GraphModule, inputs: Sequence[Any], compilers: Compilers, cache_use: CacheUse | None
) -> Callable[..., Any]:
    """Compile a graph of Dynamo's; return a function of its inputs.

    If Dynamo's inputs were nested, the function takes a list of the flat ones, which it empties. cache_use: if torch's
    cache is used; the compilers then return OutputCodes, and backward graphs are compiled together with their forward
    graphs, since both are one entry. Raises the errors of the compilers.
    """
    eager_backward = cache_use is not None or functorch_config.force_non_lazy_backward_lowering
    # The tokens of operators with effects stay inside the graphs: torch calls what its cache gives without any.
    patches: dict[str, Any] = {"unlift_effect_tokens": True}
    if cache_use:
        patches |= {"bundled_autograd_cache": True, "force_non_lazy_backward_lowering": eager_backward}
    with contextlib.ExitStack() as stack:
        stack.enter_context(functorch_config.patch(patches))
        call, parameters, _, _, fakes, described, config, mode, shapes, _, _, activations = (
            prepare_aot_module_simplified(
                graph_module,
                inputs,
                None,
                {},
                keep_inference_input_mutations=True,
                ignore_shape_env=False,
                flatten=False,
                force_non_lazy_backward_lowering=eager_backward,
            )
        )
        key = key_of(graph_module, fakes, config, cache_use) if cache_use else None
        entry = found(key, fakes, config, cache_use) if cache_use and key else None
        if entry is not None:
            compiled, metadata = entry
        else:
            if key:
                config = replace(config, cache_info=cache_info(key, fakes))
            stack.enter_context(compiled_autograd._disable())
            state = create_aot_state(stack, call, fakes, described, config, mode, shapes)
            state.fw_metadata.act_input_indices = activations
            names = ["a parameter" for _ in parameters] + _names(graph_module, len(inputs))
            refuse_reread_aliases(fakes, names, config, state.fw_metadata)
            captured = aot_stage1_graph_capture(state, call)
            roles: list[Any] = [compilers.forward, compilers.backward, compilers.inference]
            if cache_use:
                roles = [SerializableAOTDispatchCompiler(OutputCode, compiler) for compiler in roles]
            compiled, _ = aot_stage2_compile(state, captured, compilers.partition, *roles)
            metadata = state.fw_metadata
    # No backward graph takes the memory of what was saved for it, so it may run again: retain_graph=True.
    metadata.bw_donated_idxs = []
    function = _without_wrapper(compiled, metadata) or compiled
    if isinstance(graph_module, GmWrapper):
        return lambda given: function([*parameters, *_take_all(given)])
    return lambda *given: function([*parameters, *given])


def _names(graph_module: GraphModule | GmWrapper, count: int) -> list[str]:
    """Return the names of the graph's inputs in the user's code; their numbers if lists of them were flattened."""
    if isinstance(graph_module, GmWrapper):
        return [f"number {i}" for i in range(count)]
    return [input_name(node) for node in graph_module.graph.find_nodes(op="placeholder")]


def _take_all(values: list[Any]) -> list[Any]:
    taken = values.copy()
    values.clear()
    return taken


def _without_wrapper(compiled: Any, metadata: ViewAndMutationMeta) -> Callable[[list[Any]], Any] | None:
    """Return a compiled graph's `direct` callable if AOTAutograd's wrapper, 1.6 us a call, does nothing; else None.

    It does nothing for a graph without gradients that writes to no input and returns tensors of its own: there the
    wrapper (`_create_runtime_wrapper`) only switches gradients and autocast off, which no program depends on.
    """
    layers = [compiled]
    while (inner := getattr(layers[-1], "__wrapped__", None)) is not None:
        layers.append(inner)
    # With any other wrapper, as for subclasses or for inputs that are one tensor, there are more.
    wrappers = [layer for layer in layers[:-1] if not isinstance(layer, SerializableCompiledFunction)]
    if len(wrappers) != 1 or (
        metadata.num_mutated_inp_runtime_indices
        or metadata.num_mutated_graph_handled_indices
        or metadata.num_outputs_aliased
        or metadata.num_intermediate_bases
        or metadata.dynamic_outputs
        or metadata.grad_enabled_mutation is not None
        or metadata.is_rng_op_functionalized
    ):
        return None
    return getattr(layers[-1], "direct", None)
