"""The front door's one door to PyTorch's private APIs."""

from __future__ import annotations

from torch._dynamo.exc import BackendCompilerFailed
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.compiler._cache import CacheArtifact, CacheArtifactFactory, CacheArtifactRecorder

from .apart import compiled_apart, fake_copies, modules_of
from .autograd import compile_with_aot_autograd, forward_returns, static_inputs
from .autograd_cache import BypassAOTAutogradCache, CacheUse, FXGraphCacheMiss, OutputCode, usable
from .frames import frame_function, graph_tensors, guards, input_name, shape_guards, size_hint
from .joint import JointPlaces, export_joint
from .optimizer_steps import mark_stepped, traced_as_compiled
from .streams import leave_out_streams
from .structured_trace import forms_are_read, trace_artifact, trace_event

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
    "OutputCode",
    "compile_with_aot_autograd",
    "compiled_apart",
    "export_joint",
    "fake_copies",
    "forms_are_read",
    "forward_returns",
    "frame_function",
    "graph_tensors",
    "guards",
    "input_name",
    "leave_out_streams",
    "mark_stepped",
    "modules_of",
    "shape_guards",
    "size_hint",
    "static_inputs",
    "trace_artifact",
    "trace_event",
    "traced_as_compiled",
    "unset_fake_temporarily",
    "usable",
]
