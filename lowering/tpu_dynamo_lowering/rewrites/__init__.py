"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import foreach, linalg, scalars, strides, windows

__all__ = ["foreach", "linalg", "scalars", "strides", "windows"]
