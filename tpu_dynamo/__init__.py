"""torch.compile(model, backend="tpu"): PyTorch graphs through torch-mlir, StableHLO and XLA to TPUs.

Importing this package registers torch.device("tpu") unless another package has; it touches no chip and no global state
of JAX.
"""

from importlib import metadata

from tpu_dynamo_lowering import SourceLine, Unsupported, UnsupportedInput, UnsupportedOp
from tpu_dynamo_runtime import (
    CompileOnlyTarget,
    Cost,
    DoesNotFit,
    LineCost,
    PlatformUnavailable,
    ProgramMemory,
    UnknownTarget,
)

from .cache.misses import Miss
from .compile_for import TargetGraph, compile_for
from .device import DeviceNameTaken, register_if_free
from .diagnostics import Diagnosis, diagnose
from .errors import CompilationFailed, FrozenParameterChanged, NeedsValues
from .options import OptionError, Options
from .owners import Memory, memory
from .precompiled import Precompiled, precompile
from .session import explain_last_miss, reset, reset_stats, stats
from .statistics import Snapshot
from .training import NotALoss, TrainStep, UnsupportedOptimizer, train_step

__version__ = metadata.version("tpu-dynamo")

__all__ = [
    "CompilationFailed",
    "CompileOnlyTarget",
    "Cost",
    "DeviceNameTaken",
    "Diagnosis",
    "DoesNotFit",
    "FrozenParameterChanged",
    "LineCost",
    "Memory",
    "Miss",
    "NeedsValues",
    "NotALoss",
    "OptionError",
    "Options",
    "PlatformUnavailable",
    "Precompiled",
    "ProgramMemory",
    "Snapshot",
    "SourceLine",
    "TargetGraph",
    "TrainStep",
    "UnknownTarget",
    "Unsupported",
    "UnsupportedInput",
    "UnsupportedOp",
    "UnsupportedOptimizer",
    "__version__",
    "compile_for",
    "diagnose",
    "explain_last_miss",
    "memory",
    "precompile",
    "reset",
    "reset_stats",
    "stats",
    "train_step",
]

register_if_free()
