"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import convolutions, copies, foreach, linalg, losses, memory, scalars, strides, windows

__all__ = ["convolutions", "copies", "foreach", "linalg", "losses", "memory", "scalars", "strides", "windows"]
