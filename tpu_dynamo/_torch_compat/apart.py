"""Compilation that leaves no trace: models with fake tensors, and Dynamo as it was before."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C._dynamo.eval_frame import _get_cache_entries_for_region
from torch._dynamo import config, convert_frame, pgo
from torch._dynamo.guards import DeletedGuardManagerWrapper
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .frames import size_hint

# What mark_dynamic, maybe_mark_dynamic, mark_unbacked and mark_static write on a tensor.
_MARKS = re.compile(r"_dynamo_\w*(indices|range|overrides|bounds|shape_ids)|_specialize_on|_has_dynamo_dim_marking")


@contextlib.contextmanager
def compiled_apart(
    function: Callable[..., Any], backend: Callable[..., Any], dynamic: bool | None = None
) -> Iterator[Callable[..., Any]]:
    """Give `function` under torch.compile, and afterwards make Dynamo forget it.

    Dynamo forgets its cached code, the sizes it has seen and its counts; other threads compile before or after. Raises
    RuntimeError if Dynamo is switched off.
    """
    if config.disable:
        raise RuntimeError(
            "a model is captured by Dynamo, which TORCHDYNAMO_DISABLE or torch._dynamo.config.disable switches off\n"
            "  try: unset TORCHDYNAMO_DISABLE, or set torch._dynamo.config.disable = False"
        )
    with (
        convert_frame.compile_lock,
        config.patch(automatic_dynamic_local_pgo=False, automatic_dynamic_remote_pgo=False),
    ):
        sizes_seen, pgo._CODE_STATE = pgo._CODE_STATE, defaultdict(pgo.CodeState)
        counts = {name: counter.copy() for name, counter in counters.items()}
        compiled = torch.compile(function, backend=backend, dynamic=dynamic, isolate_recompiles=True)  # pyright: ignore[reportCallIssue]
        try:
            yield compiled
        finally:
            pgo._CODE_STATE = sizes_seen
            counters.clear()
            counters.update(counts)
            context = getattr(compiled, "dynamo_ctx", compiled)
            _forget_region(context._isolate_recompiles_id)


def _forget_region(region: int) -> None:
    """Empty the cache entries of one isolated torch.compile call, which would live as long as the user's functions."""
    for reference in list(convert_frame.input_codes.seen):
        if (code := reference()) is not None:
            for entry in _get_cache_entries_for_region(code, region):
                state = entry.guard_manager.extra_state
                if state is not None:
                    state.invalidate(entry, DeletedGuardManagerWrapper("it was compiled ahead of time"))


def modules_of(model: Any) -> list[torch.nn.Module]:
    """Return a module, or the module of a method, with those within it; for other functions an empty list."""
    owner = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    return list(owner.modules()) if isinstance(owner, torch.nn.Module) else []


@contextlib.contextmanager
def fake_copies(model: Any, inputs: Any, device: str) -> Iterator[Any]:
    """Give `inputs` as fake tensors on `device`, while `model`'s tensors are fake too; nothing then computes.

    A tensor that occurs several times becomes one fake tensor. Afterwards the modules have their own tensors and
    attributes again, whatever the model's code did to them. The model is a module, a method of one, or a function of
    its inputs alone.
    """
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            copy = fake_wrapper(tensor) if is_traceable_wrapper_subclass(tensor) else fake_plain(tensor)
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            copy = torch.nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
            fakes[id(tensor)] = copy if is_parameter else copy.requires_grad_(tensor.requires_grad)
            vars(copy).update({name: value for name, value in vars(tensor).items() if _MARKS.fullmatch(name)})
        return fakes[id(tensor)]

    def fake_plain(tensor: torch.Tensor) -> torch.Tensor:
        shape, stride = ([int(size_hint(n)) for n in sizes] for sizes in (tensor.shape, tensor.stride()))
        return torch.empty_strided(shape, stride, dtype=tensor.dtype, device=device)

    def fake_wrapper(tensor: Any) -> torch.Tensor:
        # DTensors and quantised tensors: the program's arguments are the tensors that they hold.
        names, rest = tensor.__tensor_flatten__()
        values = {name: getattr(tensor, name) for name in names}
        held = {name: fake(each) if isinstance(each, torch.Tensor) else each for name, each in values.items()}
        return type(tensor).__tensor_unflatten__(held, rest, tensor.shape, tensor.stride()).detach()

    modules = modules_of(model)
    # Higher order operators ask for the symbols of a mode, though here every size is a number. Values stay unknown.
    shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False)
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=shapes)
    with mode, contextlib.ExitStack() as restored:
        for module in modules:
            restored.enter_context(_attributes_kept(module))
        for module in modules:
            for name, value in list(vars(module).items()):
                if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value)):
                    vars(module)[name] = pytree.tree_map_only(torch.Tensor, fake, value)
        yield pytree.tree_map_only(torch.Tensor, fake, inputs)


@contextlib.contextmanager
def _attributes_kept(module: torch.nn.Module) -> Iterator[None]:
    """Give a module its present attributes back at the end, its lists and registries their present members."""
    attributes = vars(module).copy()
    members = [(value, value.copy()) for value in attributes.values() if type(value) in (dict, list, set)]
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(attributes)
        for value, copy in members:
            if isinstance(value, list):
                value[:] = copy
            else:
                value.clear()
                value.update(copy)
