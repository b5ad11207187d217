"""Models of `fully_shard`, whose parameters a whole step gathers itself: FSDP2's hooks would run between programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Module

from .._torch_compat import (
    Policy,
    Sharding,
    fully_sharded_modules,
    policy_of,
    pytree,
    reshard,
    shardings_of,
    unusual,
    wrap_hooks,
)


class Stepping:
    """The mark that a whole step calls the model: parameters are gathered where they are read, and hooks do nothing."""

    now = False


def gather_in_steps(model: Module) -> list[Module]:
    """Let whole steps gather what `fully_shard` sharded, in place; return the modules that it was called on.

    Outside of steps the model is as before. Raises NotImplementedError for settings of FSDP2 that a step does not know.
    """
    modules = fully_sharded_modules(model)
    for module in modules:
        if (why := unusual(module)) is not None:
            raise NotImplementedError(
                f"a fully_shard module {type(module).__name__} cannot be part of a training step: {why}\n"
                '  try: torch.compile(model, backend="tpu"), and call the optimizer in eager'
            )
        if "_tpu_dynamo_gathers" in module.__dict__:
            continue
        policy = policy_of(module)
        wrap_hooks(module, lambda when, hook, policy=policy: _HOOKS[when](hook, policy))
        module.__dict__["_tpu_dynamo_gathers"] = True
        for sharding in shardings_of(module):
            for owner, name in sharding.owners:
                _gather_where_read(owner, name, sharding)
    return modules


def hold_shards(modules: list[Module]) -> None:
    """Let modules hold their shards alone, as before a step."""
    for module in modules:
        reshard(module)


def gathered_again(modules: list[Module]) -> set[int]:
    """Return the ids of the parameters of `fully_shard` modules that the backward of a step gathers again."""
    return {id(each.parameter) for module in modules for each in shardings_of(module) if each.again}


def _gather_where_read(owner: Module, name: str, sharding: Sharding) -> None:
    """Give a module a class of its own, in which steps read a parameter as a whole."""

    def read(self: Module) -> Any:
        parameter = self._parameters[name]
        return _gathered(parameter, sharding) if Stepping.now else parameter

    kind = type(owner)
    owner.__class__ = type(kind.__name__, (kind,), {name: property(read), "__module__": kind.__module__})


def _gathered(parameter: Any, sharding: Sharding) -> Any:
    """Return a parameter as its module computes with it: gathered over the mesh of `fully_shard`, in its dtype.

    The gradient is the mean over that mesh's ranks, in the dtype of the policy.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate

    shard = parameter.to_local()
    if sharding.replicas is not None:
        # Before the gather, so that in the backward what replicas sum up is a shard, and no whole gradient.
        shard = shard.to(torch.promote_types(shard.dtype, sharding.backward_dtype or shard.dtype))
        equal = DTensor.from_local(shard, sharding.replicas, [Replicate()], run_check=False)
        shard = equal.to_local(grad_placements=[Partial("avg")])
    dimensions = sharding.mesh.ndim
    shards = DTensor.from_local(
        shard, sharding.mesh, sharding.placements, run_check=False, shape=sharding.size, stride=sharding.stride
    )
    whole = shards.redistribute(
        placements=[Replicate()] * dimensions,
        forward_dtype=sharding.forward_dtype or parameter.dtype,
        backward_dtype=sharding.backward_dtype or sharding.forward_dtype,
    ).to_local(grad_placements=[Partial("avg")] * dimensions)
    if sharding.whole is None:
        return whole
    return DTensor.from_local(
        whole, sharding.whole.mesh, sharding.whole.placements, run_check=False, shape=sharding.whole.shape,
        stride=sharding.whole.stride,
    )  # fmt: skip


def _before(hook: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    def before(module: Module, args: Any, kwargs: Any) -> Any:
        if not Stepping.now:
            return hook(module, args, kwargs)
        if policy.param_dtype is None or not policy.cast_forward_inputs:
            return None
        return _cast(args, policy.param_dtype), _cast(kwargs, policy.param_dtype)

    return before


def _after(hook: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    def after(module: Module, args: Any, output: Any) -> Any:
        if not Stepping.now:
            return hook(module, args, output)
        return None if policy.output_dtype is None else _cast(output, policy.output_dtype)

    return after


_HOOKS = {"before": _before, "after": _after}


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, values
    )
