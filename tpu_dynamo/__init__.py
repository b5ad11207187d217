"""torch.compile(model, backend="tpu"): PyTorch graphs through torch-mlir, StableHLO and XLA to TPUs.

Importing this package registers torch.device("tpu") unless another package has; it touches no chip and no global state
of JAX. The public names are imported when they are first asked for.
"""

import sys
from typing import TYPE_CHECKING

from tpu_dynamo_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from tpu_dynamo_lowering import SourceLine as SourceLine
    from tpu_dynamo_lowering import Unsupported as Unsupported
    from tpu_dynamo_lowering import UnsupportedInput as UnsupportedInput
    from tpu_dynamo_lowering import UnsupportedOp as UnsupportedOp
    from tpu_dynamo_runtime import CompileOnlyTarget as CompileOnlyTarget
    from tpu_dynamo_runtime import Cost as Cost
    from tpu_dynamo_runtime import DeviceOutOfMemory as DeviceOutOfMemory
    from tpu_dynamo_runtime import DoesNotFit as DoesNotFit
    from tpu_dynamo_runtime import LineCost as LineCost
    from tpu_dynamo_runtime import PlatformUnavailable as PlatformUnavailable
    from tpu_dynamo_runtime import ProgramMemory as ProgramMemory
    from tpu_dynamo_runtime import UnknownTarget as UnknownTarget

    from .ahead_of_time.target_graphs import TargetGraph as TargetGraph
    from .ahead_of_time.target_graphs import compile_for as compile_for
    from .cache.forbidden import CompileForbidden as CompileForbidden
    from .cache.misses import Miss as Miss
    from .check_model import Check as Check
    from .check_model import check as check
    from .decoding import DecodingRefused as DecodingRefused
    from .decoding import decode_loop as decode_loop
    from .device import DeviceNameTaken as DeviceNameTaken
    from .device_memory import Memory as Memory
    from .device_memory import memory as memory
    from .diagnostics import Diagnosis as Diagnosis
    from .diagnostics import diagnose as diagnose
    from .errors import CompilationFailed as CompilationFailed
    from .errors import FrozenParameterChanged as FrozenParameterChanged
    from .errors import NeedsValues as NeedsValues
    from .errors import NotALoss as NotALoss
    from .memory_timeline.record import MemoryRecord as MemoryRecord
    from .memory_timeline.recorder import record_memory as record_memory
    from .numerics.sometimes import WrongResults as WrongResults
    from .options import OptionError as OptionError
    from .options import Options as Options
    from .own_operators.jax_op import jax_op as jax_op
    from .own_operators.lowers import lowers as lowers
    from .precompiled import Precompiled as Precompiled
    from .precompiled import precompile as precompile
    from .profiling.recorder import AlreadyProfiling as AlreadyProfiling
    from .profiling.run import ProfiledRun as ProfiledRun
    from .profiling.run import profile as profile
    from .session import explain_last_miss as explain_last_miss
    from .session import forbid_compile as forbid_compile
    from .session import reset as reset
    from .session import reset_stats as reset_stats
    from .session import stats as stats
    from .statistics import Snapshot as Snapshot
    from .training import TrainStep as TrainStep
    from .training import UnsupportedOptimizer as UnsupportedOptimizer
    from .training import train_step as train_step
    from .version import __version__ as __version__
    from .warmup.decorator import warmup_case as warmup_case

_PLACES = {
    ".ahead_of_time.target_graphs": ("TargetGraph", "compile_for"),
    ".cache.forbidden": ("CompileForbidden",),
    ".cache.misses": ("Miss",),
    ".check_model": ("Check", "check"),
    ".decoding": ("DecodingRefused", "decode_loop"),
    ".device": ("DeviceNameTaken",),
    ".diagnostics": ("Diagnosis", "diagnose"),
    ".errors": ("CompilationFailed", "FrozenParameterChanged", "NeedsValues", "NotALoss"),
    ".memory_timeline.record": ("MemoryRecord",),
    ".memory_timeline.recorder": ("record_memory",),
    ".numerics.sometimes": ("WrongResults",),
    ".options": ("OptionError", "Options"),
    ".device_memory": ("Memory", "memory"),
    ".own_operators.jax_op": ("jax_op",),
    ".own_operators.lowers": ("lowers",),
    ".precompiled": ("Precompiled", "precompile"),
    ".profiling.recorder": ("AlreadyProfiling",),
    ".profiling.run": ("ProfiledRun", "profile"),
    ".session": ("explain_last_miss", "forbid_compile", "reset", "reset_stats", "stats"),
    ".statistics": ("Snapshot",),
    ".training": ("TrainStep", "UnsupportedOptimizer", "train_step"),
    ".version": ("__version__",),
    ".warmup.decorator": ("warmup_case",),
    "tpu_dynamo_lowering": ("SourceLine", "Unsupported", "UnsupportedInput", "UnsupportedOp"),
    "tpu_dynamo_runtime": (
        "CompileOnlyTarget",
        "Cost",
        "DeviceOutOfMemory",
        "DoesNotFit",
        "LineCost",
        "PlatformUnavailable",
        "ProgramMemory",
        "UnknownTarget",
    ),
}

# Hidden from type checkers, which would otherwise let every name pass.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _PLACES)

# Not by the entry point group `torch.backends`, which `import torch` loads in every program of the environment: a
# package that is merely installed would add an accelerator to programs that do not know of it.
# The script `tpu-dynamo` imports its entry point first, and registers the device before it runs a user's code.
if "tpu_dynamo_cli" not in sys.modules:
    from .device import register_if_free

    register_if_free()
