"""Device memory in use, by owner."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from tpu_dynamo_runtime import html_table

from .held_tensors import held_tensors
from .session import session


@dataclass(frozen=True)
class Memory:
    """Live bytes of the device's memory by owner, without memory that the CPU client shares with the host.

    parameters: of modules on the device, and copies of CPU models' parameters and buffers. gradients: their `.grad`.
    optimizer_state: tensors in the state of optimizers. tensors: other tensors that Python code holds: buffers,
    inputs, outputs. activations: tensors that only autograd holds, saved for a backward. constants: of compiled graphs.
    """

    parameters: int = 0
    gradients: int = 0
    optimizer_state: int = 0
    tensors: int = 0
    activations: int = 0
    constants: int = 0

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(asdict(self).values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value:,} bytes" for name, value in {**asdict(self), "total": self.total}.items())

    def _repr_html_(self) -> str:
        """Return the bytes by owner for a notebook."""
        return html_table(("owner", "bytes"), {**asdict(self), "total": self.total}.items())


def memory() -> Memory:
    """Return the device memory in use now, by owner.

    It looks at every Python object, which takes a while: it is for people, not for loops. A buffer that several tensors
    share is counted once, for the first of its owners in the order of `Memory`'s fields.
    """
    held: Counter[str] = Counter()
    for each in held_tensors():
        held[each.owner] += each.cell.nbytes
    return Memory(
        parameters=held["parameters"] + session().resident_bytes(),
        gradients=held["gradients"],
        optimizer_state=held["optimizer_state"],
        tensors=held["tensors"],
        activations=held["activations"],
        constants=sum(executable.constant_bytes for executable in session().executables()),
    )
