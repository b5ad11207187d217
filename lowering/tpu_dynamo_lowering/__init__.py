"""FX graph to StableHLO program; touches no device."""

from . import fingerprint
from .buckets.extents import Extent, is_padded
from .buckets.pad_sizes import PaddedGraph, Unproven, pad_sizes
from .canonical import NoStableKey, canonical, describe_tensor, written_nodes
from .errors import LoweringFailed, Unsupported, UnsupportedInput, UnsupportedOp, with_code
from .inline import inline
from .layouts import dense_order
from .ops import PATTERNS, TABLE
from .pipeline import lower, prepare, readable, trace
from .program import (
    Argument,
    Computed,
    Given,
    Literal,
    MeshGroup,
    Number,
    Output,
    Program,
    Sparse,
    TensorSpec,
    Update,
    View,
)
from .randomness import fold_into_draw, repeat_draw
from .rewrites.optimizers import OPTIMIZER_STEPS
from .sizes import SizeSource, size_sources
from .source_lines import SourceLine, is_own, named_operation, user_line
from .survey import survey
from .table import How, Lowering, all_lowerings
from .target import AttentionForm
from .tracing import own_definitions

__all__ = [
    "OPTIMIZER_STEPS",
    "PATTERNS",
    "TABLE",
    "Argument",
    "AttentionForm",
    "Computed",
    "Extent",
    "Given",
    "How",
    "Literal",
    "Lowering",
    "LoweringFailed",
    "MeshGroup",
    "NoStableKey",
    "Number",
    "Output",
    "PaddedGraph",
    "Program",
    "SizeSource",
    "SourceLine",
    "Sparse",
    "TensorSpec",
    "Unproven",
    "Unsupported",
    "UnsupportedInput",
    "UnsupportedOp",
    "Update",
    "View",
    "all_lowerings",
    "canonical",
    "dense_order",
    "describe_tensor",
    "fingerprint",
    "fold_into_draw",
    "inline",
    "is_own",
    "is_padded",
    "lower",
    "named_operation",
    "own_definitions",
    "pad_sizes",
    "prepare",
    "readable",
    "repeat_draw",
    "size_sources",
    "survey",
    "trace",
    "user_line",
    "with_code",
    "written_nodes",
]
