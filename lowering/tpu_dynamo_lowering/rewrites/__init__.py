"""Operators said in terms of others, one file an operator family; importing this package fills the table."""

from . import strides

__all__ = ["strides"]
