"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import linalg, strides

__all__ = ["linalg", "strides"]
