# pyright: reportAttributeAccessIssue=false
"""The door to how DTensor draws random numbers; apart, since only processes with a job need DTensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch._library.fake_class_registry import FakeScriptObject
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed.tensor import _random as dtensor_random
from torch.fx.traceback import annotate

from ..distributed._torch_compat import SHARDS


class _Tracker(dtensor_random._RNGStateTracker):
    """A tracker of random numbers that tells operators which shard of a DTensor they draw."""

    def __init__(self, draw: Callable[[int, torch.Generator | None], AbstractContextManager[None]]):
        self._draw = draw
        self._use_distribute_region = True

    @contextmanager
    def _distribute_region(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, spec: Any, generator: torch.Generator | None = None
    ) -> Iterator[None]:
        ranks, shards = _shards_of(spec)
        note = annotate({SHARDS: (ranks, shards)})
        with note, self._draw(shards[ranks.index(dist.get_rank())], generator):
            yield


def _shards_of(spec: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ranks of a DTensor's mesh, and the number of the shard that each has."""
    mesh = spec.mesh.real_obj if isinstance(spec.mesh, FakeScriptObject) else spec.mesh
    with unset_fake_temporarily():
        ranks, shape = mesh.mesh.flatten().tolist(), mesh.mesh.shape
    shards = []
    for place in itertools.product(*map(range, shape)):
        index, count = dtensor_random._calc_shard_info(list(place), spec)
        shards.append(int(dtensor_random._calc_shard_linear_idx(index, count)))
    return tuple(ranks), tuple(shards)


def draw_by_shards(draw: Callable[[int, torch.Generator | None], AbstractContextManager[None]]) -> None:
    """Let DTensor's operators that draw do it within `draw(shard, generator)`; nodes say all ranks' in `custom`."""
    dtensor_random._rng_tracker = _Tracker(draw)
