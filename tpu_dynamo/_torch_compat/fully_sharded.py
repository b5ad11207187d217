# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportPrivateUsage=false
"""FSDP2's modules: what `fully_shard` keeps of them, as a step needs it that gathers their parameters itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Module


@dataclass(frozen=True)
class Policy:
    """The dtypes in which a module computes that `fully_shard` was called on, as MixedPrecisionPolicy has them."""

    param_dtype: torch.dtype | None
    output_dtype: torch.dtype | None
    cast_forward_inputs: bool


@dataclass(frozen=True)
class Sharding:
    """One parameter of a `fully_shard` module, by the names that it has.

    owners: modules and names. parameter: the sharded one. mesh, placements: over which it is sharded. replicas: that of
    the ranks with equal shards, None if there are none or if `mesh` has them as a dimension. whole: the spec of the
    DTensor that it is when it is gathered, None for a plain tensor. size, stride: those of the gathered tensor.
    forward_dtype, backward_dtype: in which it is gathered, and its gradient reduced. again: whether it is gathered
    anew in the backward.
    """

    owners: tuple[tuple[Module, str], ...]
    parameter: torch.Tensor
    mesh: Any
    placements: tuple[Any, ...]
    replicas: Any
    whole: Any
    size: torch.Size
    stride: tuple[int, ...]
    forward_dtype: torch.dtype | None
    backward_dtype: torch.dtype | None
    again: bool


def fully_sharded_modules(model: Module) -> list[Module]:
    """Return the modules in a model that `fully_shard` was called on, the outermost first, which knows then that it is.

    Of several modules in one call, each is among them.
    """
    found = [module for module in model.modules() if hasattr(module, "_get_fsdp_state")]
    inner = {each for module in found for each in module.modules() if each is not module}
    for module in found:
        if module not in inner:
            module._get_fsdp_state()._lazy_init()
    return found


def policy_of(module: Module) -> Policy:
    """Return how a `fully_shard` module computes."""
    given = module._get_fsdp_state()._mp_policy
    return Policy(given.param_dtype, given.output_dtype, given.cast_forward_inputs)


def wrap_hooks(module: Module, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the hooks of a `fully_shard` module around its forward by what `wrap("before" | "after", hook)` gives."""
    state = module._get_fsdp_state()
    for handle in {id(h): h for h in (state._pre_forward_hook_handle, state._post_forward_hook_handle)}.values():
        for each in getattr(handle, "handles", (handle,)):
            hooks = each.hooks_dict_ref()
            for one in (module, *getattr(state, "_modules", ())):
                for when, own in (("before", one._forward_pre_hooks), ("after", one._forward_hooks)):
                    if hooks is own and each.id in hooks:
                        hooks[each.id] = wrap(when, hooks[each.id])


def unusual(module: Module) -> str | None:
    """Return what a `fully_shard` module has that a whole step does not know of; None if there is nothing."""
    for group in module._get_fsdp_state()._fsdp_param_groups:
        if group.gradient_divide_factor is not None:
            return "set_gradient_divide_factor was called"
        if group._all_reduce_hook is not None:
            return "set_all_reduce_hook was called"
        for parameter in group.fsdp_params:
            if parameter.offload_to_cpu:
                return "its parameters are offloaded to the CPU"
            if getattr(parameter.mesh_info, "is_spmd_mesh", False):
                return "it was sharded with dp_mesh_dims"
    return None


def reshard(module: Module) -> None:
    """Let a `fully_shard` module hold its shards alone, after a forward without a backward too."""
    for group in module._get_fsdp_state()._fsdp_param_groups:
        if not group.is_sharded:
            module.reshard()


def shardings_of(module: Module) -> Iterator[Sharding]:
    """Yield the parameters of a `fully_shard` module that it gathers itself, each once."""
    from torch.distributed.tensor import Replicate

    state = module._get_fsdp_state()
    for group in state._fsdp_param_groups:
        for each in group.fsdp_params:
            info, mesh_info = each._module_info, each.mesh_info
            owners = [(info.module, info.param_name), *zip(info.shared_modules, info.shared_param_names, strict=True)]
            mesh, replicas, shard = mesh_info.mesh, None, mesh_info.shard_mesh_dim
            if shard is not None and mesh.ndim == 2 and (names := mesh.mesh_dim_names):
                mesh, replicas, shard = mesh[names[shard]], mesh[names[1 - shard]], 0
            placements = [Replicate() for _ in range(mesh.ndim)]
            if shard is not None:
                placements[shard] = each.fsdp_placement
            yield Sharding(
                tuple(owners), each.sharded_param, mesh, tuple(placements), replicas, each._unsharded_dtensor_spec,
                each._orig_size, tuple(each._contiguous_orig_stride), state._mp_policy.param_dtype,
                state._mp_policy.reduce_dtype, group.post_forward_mesh_info is not None,
            )  # fmt: skip
