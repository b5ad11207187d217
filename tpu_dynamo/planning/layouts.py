"""Layouts: how a model and its batch lie on the chips of a topology."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .pairs import TensorPlan


@dataclass(frozen=True)
class Layout:
    """One way to lay a model out.

    replicate: groups of chips with the same parameters. shard: chips that share out parameters, gradients and the
    optimizer's state. tensor: chips that share out the work on each row. recompute: whether blocks compute their
    activations again in the backward. micro: slices of the batch that go through one after the other.
    """

    replicate: int
    shard: int
    tensor: int
    recompute: bool = False
    micro: int = 1

    @property
    def data(self) -> int:
        """The number of shares of the batch."""
        return self.replicate * self.shard

    @property
    def mesh(self) -> dict[str, int]:
        """The sizes of the DeviceMesh by name. Tensor parallelism is the innermost: its chips are neighbours."""
        sizes = {"replicate": self.replicate, "shard": self.shard, "tensor": self.tensor}
        if self.replicate == 1 and (self.shard > 1 or self.tensor > 1):
            del sizes["replicate"]
        if self.data == 1 and self.tensor > 1:
            del sizes["shard"]
        if self.tensor == 1:
            del sizes["tensor"]
        return sizes

    @property
    def name(self) -> str:
        """The layout in words, as `FSDP 32 x tensor 8, recomputing`."""
        parts = []
        if self.shard > 1:
            parts.append(f"FSDP {self.shard}" if self.replicate == 1 else f"HSDP {self.replicate} x {self.shard}")
        elif self.replicate > 1:
            parts.append(f"data {self.replicate}")
        if self.tensor > 1:
            parts.append(f"tensor {self.tensor}")
        words = [" x ".join(parts) or "one chip"]
        words += ["recomputing"] if self.recompute else []
        words += [f"{self.micro} micro-batches"] if self.micro > 1 else []
        return ", ".join(words)


def layouts(
    chips: int, batch: int, plan: TensorPlan, *, training: bool = True, blocks: bool = True
) -> Iterator[Layout]:
    """Yield the sensible layouts for so many chips and rows of a batch.

    Every factor is a power of two, but for what is left of the chips. Rows are shared out evenly. blocks: whether there
    are blocks that can be recomputed. Of an inference, parameters are replicated or split, never gathered.
    """
    for tensor in _powers(chips):
        if tensor > 1 and not plan.fits(tensor):
            continue
        data = chips // tensor
        if batch % data:
            continue
        for shard in _powers(data) if training else [1]:
            for recompute in (False, True) if training and blocks else (False,):
                # A slice is computed again as a whole, blocks and all.
                for micro in (1, 2, 4, 8) if training and not recompute else (1,):
                    if (batch // data) % micro == 0:
                        yield Layout(data // shard, shard, tensor, recompute, micro)


def _powers(most: int) -> list[int]:
    """Return the powers of two that divide a number, and the number."""
    found = [1 << i for i in range(most.bit_length()) if most % (1 << i) == 0]
    return found if found[-1] == most else [*found, most]
