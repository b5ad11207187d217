# pyright: reportAttributeAccessIssue=false
"""The door of distributed code to PyTorch's private APIs: process groups, their operators, meshes in graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    FakeProcessGroup,
    ProcessGroupGloo,
    PythonCallbackWork,
    _create_work_from_future,
)
from torch._library.fake_class_registry import FakeScriptObject
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import GroupName, _resolve_process_group
from torch.futures import Future
from torch.fx import GraphModule, Node

# The key of nodes' `custom` metadata under which draws say which shards ranks have.
SHARDS = "tpu_dynamo_shards"

__all__ = [
    "SHARDS",
    "DeviceMesh",
    "OpOverload",
    "broadcast_options",
    "delayed_work",
    "finished_work",
    "group_of",
    "host_backend",
    "implement",
    "place_holder",
    "ranks_of",
    "real_value",
    "reduction_of",
    "trace_for_all_ranks",
    "unset_fake_temporarily",
]


def place_holder(rank: int, size: int) -> Any:
    """Return a backend that holds the device's place in a process group; it does nothing when it is called."""
    return FakeProcessGroup._create_internal(rank, size)


def finished_work(tensors: Sequence[torch.Tensor] = ()) -> Any:
    """Return the Work of a collective that has ended, as C++ takes it; DDP takes the tensors from its future."""
    future: Future[list[torch.Tensor]] = Future()
    future.set_result(list(tensors))
    return _create_work_from_future(future).boxed()


def delayed_work(work: Any, after: Callable[[], None]) -> Any:
    """Return the Work of a transfer between hosts, as C++ takes it. after: called once when it was waited for."""
    waited: list[bool] = []

    def wait(timeout: timedelta) -> bool:
        if not waited:
            work.wait()
            after()
            waited.append(True)
        return True

    return PythonCallbackWork(wait).boxed()


def broadcast_options(root: int) -> Any:
    """Return the options of a broadcast from the rank at this place of a group."""
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor = root, 0
    return options


def host_backend(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """Return a gloo group of processes that connect to each other when they first speak."""
    options = ProcessGroupGloo._Options()
    options._devices = [ProcessGroupGloo.create_default_device(lazy_init=True)]
    options._timeout = timeout
    return ProcessGroupGloo(dist.PrefixStore("tpu_dynamo/hosts", store), rank, size, options)


def implement(kernels: Mapping[str, Mapping[str, Callable[..., Any]]]) -> list[torch.library.Library]:
    """Register kernels for tensors of the device, by library and name; return the libraries that hold them."""
    import torch.distributed._functional_collectives
    import torch.distributed.tensor  # defines operators of _dtensor

    libraries = []
    for namespace, functions in kernels.items():
        libraries.append(library := torch.library.Library(namespace, "IMPL", "PrivateUse1"))
        for name, function in functions.items():
            with warnings.catch_warnings():
                # Those of c10d are torch's, which ask the backend in C++; that one cannot be written in Python.
                warnings.filterwarnings("ignore", "[\\s\\S]*Overriding a previously registered kernel")
                library.impl(name, torch.compiler.disable(function), allow_override=True)
    return libraries


def trace_for_all_ranks() -> None:
    """Let DTensor trace what is the same on every rank: coordinates in meshes by operators instead of by numbers."""
    dist.config.compile_on_one_rank = True


def group_of(group: Any) -> dist.ProcessGroup:
    """Return a process group that is given by itself, by its name, or as C++ passes it."""
    if isinstance(group, str):
        return _resolve_process_group(GroupName(group))
    return group if isinstance(group, dist.ProcessGroup) else dist.ProcessGroup.unbox(group)


def ranks_of(group: Any) -> tuple[int, ...]:
    """Return the ranks of a process group in its order, those of the job. group: as `group_of` takes it."""
    return tuple(dist.get_process_group_ranks(group_of(group)))


def reduction_of(reduce_op: Any) -> str:
    """Return the word by which functional collectives call a ReduceOp that C++ passes. Raises NotImplementedError."""
    kind = reduce_op.op()
    words = {
        dist.ReduceOp.SUM: "sum", dist.ReduceOp.AVG: "avg", dist.ReduceOp.PRODUCT: "product",
        dist.ReduceOp.MIN: "min", dist.ReduceOp.MAX: "max", dist.ReduceOp.BAND: "band", dist.ReduceOp.BOR: "bor",
        dist.ReduceOp.BXOR: "bxor",
    }  # fmt: skip
    for known, word in words.items():
        if kind == known:
            return word
    raise NotImplementedError(f"no collective on the device reduces by {kind}")


def real_value(graph_module: GraphModule, node: Node) -> Any:
    """Return the object that a node stands for in every call: a constant, a mesh or a process group."""
    value = getattr(graph_module, str(node.target)) if node.op == "get_attr" else node.meta.get("val")
    return value.real_obj if isinstance(value, FakeScriptObject) else value
