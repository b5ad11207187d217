# pyright: reportAttributeAccessIssue=false
"""The door of distributed code to PyTorch's private APIs: process groups, their operators, meshes in graphs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    FakeProcessGroup,
    ProcessGroupGloo,
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
    "group_with_place_holder",
    "has_backend",
    "host_backend",
    "implement",
    "is_work",
    "process_groups_without_ranks",
    "ranks_of",
    "real_value",
    "reduction_of",
    "unset_fake_temporarily",
    "wait",
]


HOST = torch.device("cpu")
kinds = dist.ProcessGroup.BackendType


def group_with_place_holder(device: str, store: Any, rank: int, size: int, timeout: timedelta) -> dist.ProcessGroup:
    """Return a process group in which a device has a backend that does nothing when it is called, and the CPU gloo.

    torch takes a whole group from the function that makes a backend, and then leaves it as it is. So its default
    backend, which DDP's C++ asks, is the device's: torch itself would set gloo, which a group need not have, where the
    backend was not chosen by its name alone. Gloo's processes connect to each other when they first speak.
    """
    options = ProcessGroupGloo._Options()
    options._devices = [ProcessGroupGloo.create_default_device(lazy_init=True)]
    options._timeout = timeout
    hosts = ProcessGroupGloo(dist.PrefixStore("tpu_dynamo/hosts", store), rank, size, options)
    group = dist.ProcessGroup(store, rank, size)
    group._set_default_backend(kinds.CUSTOM)
    group._register_backend(torch.device(device), kinds.CUSTOM, FakeProcessGroup._create_internal(rank, size))
    group._register_backend(HOST, kinds.GLOO, hosts)
    return group


def has_backend(group: Any, device: str) -> bool:
    """Tell whether a process group, as C++ passes it, has a backend for a device of its own."""
    return torch.device(device) in group_of(group)._device_types


def host_backend(group: Any) -> Any:
    """Return the backend of a process group for CPU tensors."""
    return group_of(group)._get_backend(HOST)


def wait(work: Any) -> None:
    """Wait for a Work, given by itself or as C++ returns it."""
    (work if isinstance(work, dist.Work) else dist.Work.unbox(work)).wait()


def is_work(value: Any) -> bool:
    """Tell whether a collective's result is the Work that C++ returns."""
    return isinstance(value, torch.ScriptObject)


def finished_work(tensors: Sequence[torch.Tensor] = ()) -> Any:
    """Return the Work of a collective that has ended, as C++ takes it; DDP takes the tensors from its future."""
    future: Future[list[torch.Tensor]] = Future()
    future.set_result(list(tensors))
    return _create_work_from_future(future).boxed()


class Transfer(dist.Work):
    """The Work of a transfer between hosts, after which something is to be done once."""

    # C++ holds a Work without its Python object, which these keep until they are waited for.
    _unfinished: ClassVar[set[Transfer]] = set()

    def __init__(self, work: Any, after: Callable[[], None]):
        super().__init__()
        self._work, self._after = work, after
        self._unfinished.add(self)

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        """Wait until the transfer has ended, and its values are where they belong."""
        if self in self._unfinished:
            wait(self._work)
            self._after()
            self._unfinished.discard(self)
        return True

    def _source_rank(self) -> int:
        return self._work._source_rank()


def delayed_work(work: Any, after: Callable[[], None]) -> Any:
    """Return the Work of a transfer between hosts, as C++ takes it. after: called once when it was waited for."""
    return Transfer(work if isinstance(work, dist.Work) else dist.Work.unbox(work), after).boxed()


def broadcast_options(root: int) -> Any:
    """Return the options of a broadcast from the rank at this place of a group."""
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor = root, 0
    return options


def implement(kernels: Mapping[str, Mapping[str, Callable[..., Any]]]) -> list[torch.library.Library]:
    """Register kernels for tensors of the device, by library and name; return the libraries that hold them."""
    libraries = []
    for namespace, functions in kernels.items():
        libraries.append(library := torch.library.Library(namespace, "IMPL", "PrivateUse1"))
        for name, function in functions.items():
            with warnings.catch_warnings():
                # Those of c10d are torch's, which ask the backend in C++; that one cannot be written in Python.
                warnings.filterwarnings("ignore", "[\\s\\S]*Overriding a previously registered kernel")
                library.impl(name, torch.compiler.disable(function), allow_override=True)
    return libraries


@contextlib.contextmanager
def process_groups_without_ranks(device: str, size: int) -> Iterator[None]:
    """Make this process rank 0 of so many ranks, of which there are no others; collectives on the device do nothing.

    What DTensor traces is then the same as on every rank of a real job. Raises ValueError in a process of a real one.
    """
    if dist.is_initialized():
        raise ValueError(
            "this process belongs to a job already\n  try: torch.distributed.destroy_process_group() before"
        )
    name = "tpu_imagined"
    if name not in dist.Backend.backend_list:
        dist.Backend.register_backend(
            name,
            lambda options, _=None: FakeProcessGroup._create_internal(options.group_rank, options.group_size),
            extended_api=True,
            devices=[device],
        )
    with dist.config.patch(compile_on_one_rank=True):
        dist.init_process_group(name, store=dist.HashStore(), rank=0, world_size=size)
        try:
            yield
        finally:
            dist.destroy_process_group()
            _forget_meshes()


def _forget_meshes() -> None:
    """Empty DTensor's caches, which would give an equal mesh of a later job the process groups of this one."""
    from torch.distributed.tensor import _redistribute, debug

    debug._clear_sharding_prop_cache()
    _redistribute._gen_transform_infos.cache_clear()


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
    raise NotImplementedError(
        "no collective on the device reduces by PREMUL_SUM, whose factor C++ does not tell: multiply the tensors, then "
        "reduce by SUM"
    )


def real_value(graph_module: GraphModule, node: Node) -> Any:
    """Return the object that a node stands for in every call: a constant, a mesh or a process group."""
    value = getattr(graph_module, str(node.target)) if node.op == "get_attr" else node.meta.get("val")
    return value.real_obj if isinstance(value, FakeScriptObject) else value
