"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import foreach, linalg, losses, strides, windows

__all__ = ["foreach", "linalg", "losses", "strides", "windows"]
