"""Operators written in JAX, one file an operator family; importing this package fills the table with them."""

from . import (
    arithmetic,
    casts,
    contractions,
    creation,
    elementwise,
    histograms,
    indexing,
    reductions,
    scans,
    sorting,
    views,
)

__all__ = [
    "arithmetic",
    "casts",
    "contractions",
    "creation",
    "elementwise",
    "histograms",
    "indexing",
    "reductions",
    "scans",
    "sorting",
    "views",
]
