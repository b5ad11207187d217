"""The front door's one door to PyTorch's private APIs."""

from __future__ import annotations

from torch._dynamo import mark_dynamic
from torch._dynamo.convert_frame import compile_lock
from torch._dynamo.exc import BackendCompilerFailed
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.compiler._cache import CacheArtifact, CacheArtifactFactory, CacheArtifactRecorder
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from .apart import compiled_apart, fake_copies, modules_of
from .autograd import compile_with_aot_autograd, forward_returns, static_inputs
from .autograd_cache import BypassAOTAutogradCache, CacheUse, FXGraphCacheMiss, OutputCode, usable
from .dtensors import implicitly_replicated, local_of, name_of_group, sharded, sharding_of
from .frames import SizeFacts, frame_function, graph_tensors, guards, input_name, shape_guards, size_facts, size_hint
from .fully_sharded import (
    Policy,
    Sharding,
    fully_sharded_modules,
    policy_of,
    reshard,
    shardings_of,
    unusual,
    wrap_hooks,
)
from .inductor import (
    become_default_backend,
    inductor,
    is_inductors_option,
    modes_of_inductor,
    refuse_device_in_inductor,
    reset_inductor,
)
from .joint import JointPlaces, export_joint
from .libraries import destroy_library
from .optimizer_steps import (
    gradient_has_hooks,
    group_initialiser,
    holds_tensors,
    mark_stepped,
    step_has_hooks,
    traced_as_compiled,
)
from .ranges import TorchRanges, watching_compiles
from .streams import leave_out_streams
from .structured_trace import forms_are_read, trace_artifact, trace_event
from .written_graphs import NotWritable, read_graph, write_graph

__all__ = [
    "BackendCompilerFailed",
    "BypassAOTAutogradCache",
    "CacheArtifact",
    "CacheArtifactFactory",
    "CacheArtifactRecorder",
    "CacheUse",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FXGraphCacheMiss",
    "FakeTensorMode",
    "JointPlaces",
    "NotWritable",
    "OpOverload",
    "OutputCode",
    "Policy",
    "ShapeEnv",
    "Sharding",
    "SizeFacts",
    "TorchRanges",
    "become_default_backend",
    "compile_lock",
    "compile_with_aot_autograd",
    "compiled_apart",
    "destroy_library",
    "export_joint",
    "fake_copies",
    "forms_are_read",
    "forward_returns",
    "frame_function",
    "fully_sharded_modules",
    "gradient_has_hooks",
    "graph_tensors",
    "group_initialiser",
    "guards",
    "holds_tensors",
    "implicitly_replicated",
    "inductor",
    "input_name",
    "is_inductors_option",
    "leave_out_streams",
    "local_of",
    "mark_dynamic",
    "mark_stepped",
    "modes_of_inductor",
    "modules_of",
    "name_of_group",
    "policy_of",
    "pytree",
    "read_graph",
    "refuse_device_in_inductor",
    "reset_inductor",
    "reshard",
    "shape_guards",
    "sharded",
    "sharding_of",
    "shardings_of",
    "size_facts",
    "size_hint",
    "static_inputs",
    "step_has_hooks",
    "trace_artifact",
    "trace_event",
    "traced_as_compiled",
    "unset_fake_temporarily",
    "unusual",
    "usable",
    "watching_compiles",
    "wrap_hooks",
    "write_graph",
]
