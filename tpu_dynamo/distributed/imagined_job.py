"""A job of many ranks without any of them: meshes, sharded models and their graphs, made in one process."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ..device import NAME as DEVICE
from ..device import register
from ._torch_compat import process_groups_without_ranks


@contextlib.contextmanager
def imagined_job(mesh: Mapping[str, int]) -> Iterator[DeviceMesh]:
    """Give the mesh of a job whose rank 0 this process is within the block, though there are no others.

    mesh: the sizes of its dimensions by name, the outermost first: ranks along the last one are neighbours. Nothing may
    be computed: collectives do nothing. Raises ValueError for sizes below one and within a real job.
    """
    if not mesh or min(mesh.values()) < 1:
        raise ValueError(f'mesh={dict(mesh)!r} has no ranks\n  try: mesh={{"dp": 4, "tp": 2}}')
    register()
    with process_groups_without_ranks(DEVICE, math.prod(mesh.values())):
        yield init_device_mesh(DEVICE, tuple(mesh.values()), mesh_dim_names=tuple(mesh))
