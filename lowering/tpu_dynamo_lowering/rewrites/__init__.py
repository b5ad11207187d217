"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import convolutions, copies, foreach, higher_order, linalg, losses, memory, scalars, strides, variants, windows

__all__ = [
    "convolutions",
    "copies",
    "foreach",
    "higher_order",
    "linalg",
    "losses",
    "memory",
    "scalars",
    "strides",
    "variants",
    "windows",
]
