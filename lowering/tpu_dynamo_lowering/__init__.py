"""FX graph to StableHLO program; touches no device."""

from .errors import LoweringFailed, Unsupported, UnsupportedInput, UnsupportedOp
from .ops import TABLE
from .pipeline import lower, readable
from .program import Argument, Literal, Program, Result, TensorSpec
from .sizes import SizeSource, size_sources
from .source_lines import SourceLine, user_line
from .table import How, Lowering

__all__ = [
    "TABLE",
    "Argument",
    "How",
    "Literal",
    "Lowering",
    "LoweringFailed",
    "Program",
    "Result",
    "SizeSource",
    "SourceLine",
    "TensorSpec",
    "Unsupported",
    "UnsupportedInput",
    "UnsupportedOp",
    "lower",
    "readable",
    "size_sources",
    "user_line",
]
