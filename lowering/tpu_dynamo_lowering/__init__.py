"""FX graph to StableHLO program; touches no device."""

from . import fingerprint
from .buckets.extents import Extent, is_padded
from .buckets.pad_sizes import PaddedGraph, Unproven, pad_sizes
from .canonical import canonical, describe_tensor, written_nodes
from .code_digest import NoStableKey
from .cuts import CutUp, OperatorCall, Part, cut, promised, refused, without_lowering
from .errors import LoweringFailed, Unsupported, UnsupportedInput, UnsupportedOp, describe, with_code
from .graph_data import NotData, graph_from_data, graph_to_data
from .inline import inline
from .jax_functions import Batched, GivenGradient, Gradient, JaxFunction
from .jax_functions import Signature as JaxSignature
from .jax_shapes import fake_results
from .layouts import dense_order
from .link import take_kernel_seconds
from .operation_names import operation_names
from .ops import PATTERNS, TABLE
from .outside import register as register_lowering
from .pipeline import lower, name_attention, prepare, readable, trace
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
from .segments import Functional, Operator, drawn_values, functional, with_outputs
from .sizes import SizeSource, plain_numbers, size_sources
from .source_lines import SourceLine, is_own, module_path, named_operation, operation_name, user_line
from .survey import survey
from .table import How, Lowering, all_lowerings
from .target import AttentionForm
from .tracing import own_definitions
from .writing_operators.calls import writing_lowering

__all__ = [
    "OPTIMIZER_STEPS",
    "PATTERNS",
    "TABLE",
    "Argument",
    "AttentionForm",
    "Batched",
    "Computed",
    "CutUp",
    "Extent",
    "Functional",
    "Given",
    "GivenGradient",
    "Gradient",
    "How",
    "JaxFunction",
    "JaxSignature",
    "Literal",
    "Lowering",
    "LoweringFailed",
    "MeshGroup",
    "NoStableKey",
    "NotData",
    "Number",
    "Operator",
    "OperatorCall",
    "Output",
    "PaddedGraph",
    "Part",
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
    "cut",
    "dense_order",
    "describe",
    "describe_tensor",
    "drawn_values",
    "fake_results",
    "fingerprint",
    "fold_into_draw",
    "functional",
    "graph_from_data",
    "graph_to_data",
    "inline",
    "is_own",
    "is_padded",
    "lower",
    "module_path",
    "name_attention",
    "named_operation",
    "operation_name",
    "operation_names",
    "own_definitions",
    "pad_sizes",
    "plain_numbers",
    "prepare",
    "promised",
    "readable",
    "refused",
    "register_lowering",
    "repeat_draw",
    "size_sources",
    "survey",
    "take_kernel_seconds",
    "trace",
    "user_line",
    "with_code",
    "with_outputs",
    "without_lowering",
    "writing_lowering",
    "written_nodes",
]
