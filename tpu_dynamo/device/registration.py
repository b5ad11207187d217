"""Registration of torch.device("tpu"), once in a process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import torch

from tpu_dynamo_lowering import with_code

from . import aten, torch_module
from ._torch_compat import (
    NAME,
    answer,
    library,
    make_generators_of_device,
    overloads_with_prefix,
    owner_of_private_use,
    print_from,
    take_flex_attention,
    take_private_use,
    unseen_by_dynamo,
)
from .accelerator import ANSWERS
from .attention import register_attention
from .autocast import register_autocast
from .barriers import register_barriers
from .distributed import register_distributed
from .eager import Eager
from .generator import DeviceGenerator
from .grouped import register_grouped_mm
from .overrides import overrides
from .pinned import is_pinned, offer_pinned_memory, pin_memory
from .recurrent import register_recurrent
from .sparse import register_sparse
from .storages import register_storages
from .tensor_memory import printed_from


class DeviceNameTaken(RuntimeError):
    """Another package owns PyTorch's one slot for devices from outside, PrivateUse1."""

    code = "TPU504"

    def __init__(self, owner: str):
        self.owner = owner
        message = (
            f'torch.device("{NAME}") cannot be registered: PyTorch has one slot for devices from outside, PrivateUse1, '
            f"and another package took it for {owner!r}\n"
            '  try: uninstall that package, or pass CPU tensors to torch.compile(backend="tpu"): that needs no device'
        )
        super().__init__(with_code(message, self.code))


# Prefixes of fused operators that belong to no optimizer.
_NO_OPTIMIZERS = ("_fused_sdp", "_fused_moving", "_fused_dropout", "_fused_rms")

# The libraries, whose kernels are registered as long as they live.
_libraries: list[object] = []
_lock = threading.Lock()


def register() -> None:
    """Register the device; the second call does nothing. Raises DeviceNameTaken."""
    with _lock:
        if _libraries:
            return
        owner = owner_of_private_use()
        if owner != "privateuseone":
            raise DeviceNameTaken(owner)
        take_private_use(torch_module.module())
        answer(ANSWERS)
        make_generators_of_device(DeviceGenerator)
        print_from(printed_from)
        register_storages()
        # Dynamo looks at every Python frame below a compiled function, and these are the device itself.
        eager = torch.compiler.disable(Eager().__call__)
        all_operators = library("_")
        all_operators.fallback(eager, "PrivateUse1")
        own = library("aten")
        for name, kernel in {**aten.KERNELS, **overrides(eager)}.items():
            own.impl(name, torch.compiler.disable(kernel))
        own.impl("_to_copy", unseen_by_dynamo(aten.to_copy))
        # ATen would split these into calls on single tensors; here the whole list is one program.
        for name in overloads_with_prefix("_foreach_") + overloads_with_prefix("_fused_"):
            if not name.endswith("out") and not name.startswith(_NO_OPTIMIZERS):
                own.impl(name, _call_of(eager, name))
        definition = torch.library.Library("tpu_dynamo", "DEF")
        register_barriers(definition)
        collectives = register_distributed(definition)
        operators = register_grouped_mm(definition) + register_attention(definition, eager)
        take_flex_attention()
        operators += register_autocast() + register_recurrent() + register_sparse()
        _libraries.extend((all_operators, own, definition, *collectives, *operators))
        offer_pinned_memory()
        host = library("aten", "CPU")
        host.impl("_pin_memory", pin_memory)
        host.impl("is_pinned", is_pinned)
        _libraries.append(host)
        for key in ("Conjugate", "Negative"):
            # PyTorch's fallback for lazy tensors copies them, and would come here again without end.
            lazy = library("aten", key)
            lazy.impl("_copy_from", torch.library.fallthrough_kernel)
            _libraries.append(lazy)
        # Imported here: these stand above the device.
        from ..default_backend import register_default_backend
        from ..integrations import accelerate, lightning
        from ..integrations.on_import import when_imported

        register_default_backend()
        when_imported("accelerate", accelerate.adapt)
        when_imported("lightning", lightning.adapt)
        when_imported("lightning_fabric", lightning.adapt_fabric)
        when_imported("pytorch_lightning", lightning.adapt_pytorch)


def register_if_free() -> None:
    """Register the device unless another package owns PrivateUse1."""
    with contextlib.suppress(DeviceNameTaken):
        register()


def _call_of(eager: Callable[..., Any], name: str) -> Callable[..., Any]:
    base, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, base), overload or "default")
    return lambda *args, **kwargs: eager(operator, *args, **kwargs)
