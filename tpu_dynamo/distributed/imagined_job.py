"""A job of many ranks without any of them: meshes, sharded models and their graphs, made in one process."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from tpu_dynamo_runtime import find_topology

from ..device import NAME as DEVICE
from ..device import register
from ._torch_compat import process_groups_without_ranks


class MeshError(ValueError):
    """A mesh that the chips of a target cannot have."""


@contextlib.contextmanager
def imagined_job(mesh: Mapping[str, int]) -> Iterator[DeviceMesh]:
    """Give the mesh of a job whose rank 0 this process is within the block, though there are no others.

    mesh: the sizes of its dimensions by name, the outermost first: ranks along the last one are neighbours. Nothing may
    be computed: collectives do nothing. Raises MeshError for sizes below one, and ValueError within a real job.
    """
    if not mesh or min(mesh.values()) < 1:
        raise MeshError(f'mesh={dict(mesh)!r} has no ranks\n  try: mesh={{"dp": 4, "tp": 2}}')
    register()
    with process_groups_without_ranks(DEVICE, math.prod(mesh.values())):
        yield init_device_mesh(DEVICE, tuple(mesh.values()), mesh_dim_names=tuple(mesh))


def check_mesh(mesh: Mapping[str, int], target: str) -> None:
    """Raise MeshError unless a mesh has a rank for each device of a topology, and nothing else is the target."""
    topology = find_topology(target)
    shape = " x ".join(f"{name}={size}" for name, size in mesh.items())
    if topology is None:
        raise MeshError(
            f"a mesh {shape} needs the chips of a topology, and {target!r} is none\n  try: target='v5e:4x4'"
        )
    devices = topology.chips * topology.chip.devices
    if math.prod(mesh.values()) != devices:
        raise MeshError(
            f"the mesh {shape} has {math.prod(mesh.values())} ranks, and {target} {devices} chips: every chip is "
            "one rank's\n  try: sizes whose product is the number of chips, or another topology"
        )


def built_on(
    mesh: DeviceMesh,
    factory: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]:
    """Return the model that a factory builds on a mesh, and its arguments: the factory's where there are no others.

    The meta device is torch's default while it builds. Raises what it raises, and TypeError where it gives no model.
    """
    with torch.device("meta"):
        made = factory(mesh)
    model, *given = made if isinstance(made, tuple) else (made,)
    if not callable(model) or len(given) > 2:
        raise TypeError(
            "with mesh=, the first argument is a function that takes the mesh and gives the model or (model, args)"
        )
    if args or kwargs or not given:
        return model, args, kwargs or {}
    own = given[0] if isinstance(given[0], tuple | list) else (given[0],)
    return model, own, given[1] if len(given) > 1 else {}
