"""Records of torch's structured trace, from this process or from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Position = tuple[str, int, int | None, int | None]

# Fields of a record that say where it belongs; the one that is left is its kind.
_CONTEXT = {
    "rank", "compiled_autograd_id", "frame_id", "frame_compile_id", "attempt", "subgraph_name", "has_payload", "stack",
}  # fmt: skip

# Kinds that are read, and kinds of torch 2.13 that hold nothing a report needs. Others are counted and named.
READ = {
    "artifact", "bwd_compilation_metrics", "compilation_metrics", "create_symbol", "describe_source",
    "describe_storage", "describe_tensor", "dynamo_cpp_guards_str", "dynamo_output_graph", "dynamo_start",
}  # fmt: skip
PASSED_OVER = {
    "aot_backward_graph", "aot_forward_graph", "aot_inference_graph", "aot_inference_graph_meta", "aot_joint_graph",
    "bwd_compilation_metrics_runtime", "chromium_event", "compilation_metrics_runtime", "compiled_autograd_graph",
    "create_unbacked_symbol", "dump_file", "dynamo_guards", "export", "exported_program", "expression_created",
    "graph_dump", "guard_added", "guard_added_fast", "guard_on_data_dependent_error", "inductor_input_graph",
    "inductor_output_code", "inductor_post_grad_graph", "inductor_pre_grad_graph", "link", "mismatched_fake_kernel",
    "missing_fake_kernel", "optimize_ddp_split_child", "optimize_ddp_split_graph", "propagate_real_tensors",
    "propagate_real_tensors_provenance", "str", "symbolic_shape_specialization",
}  # fmt: skip

# Artifacts of these names are read; torch and backends write many more.
ARTIFACTS = {"dynamo_graph_break_reason", "dynamo_error", "recompile_reasons"}
EVENTS = "tpu_dynamo/event/"


@dataclass(frozen=True)
class Record:
    """One record.

    kind: for artifacts their name. data: its metadata. process: which of several trace files it is from.
    compile_id: Dynamo's, as `2/0`. positions: the stack with exact columns of the exception that was being handled
    when the record was written, which only the same process can know.
    """

    kind: str
    data: Any
    payload: str | None = None
    process: str = ""
    compile_id: str | None = None
    attempt: int = 0
    rank: int | None = None
    positions: tuple[Position, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The compile that the record belongs to."""
        return self.process, self.compile_id or "-"


def kind_of(metadata: Mapping[str, Any]) -> str:
    """Return the kind of a record, from its metadata."""
    return next((name for name in metadata if name not in _CONTEXT), "stack" if "stack" in metadata else "?")


def record_from(
    metadata: Mapping[str, Any],
    payload: str | None,
    process: str = "",
    positions: tuple[Position, ...] = (),
) -> Record | None:
    """Return the record, or None for one that a report does not read."""
    kind = kind_of(metadata)
    if kind not in READ:
        return None
    data = metadata[kind]
    if kind == "artifact":
        name = data.get("name", "") if isinstance(data, Mapping) else ""
        if name not in ARTIFACTS and not name.startswith(EVENTS):
            return None
        kind = name
    frame, number = metadata.get("frame_id"), metadata.get("frame_compile_id")
    # Long: a graph's code is not shown, and guards are looked up for what a recompile found instead.
    if kind == "dynamo_output_graph" or (kind == "dynamo_cpp_guards_str" and not number):
        payload = None
    autograd = metadata.get("compiled_autograd_id")
    identity = None if frame is None else f"{frame}/{number}"
    if autograd is not None:
        identity = f"!{autograd}" if identity is None else f"!{autograd}/{identity}"
    return Record(kind, data, payload, process, identity, metadata.get("attempt") or 0, metadata.get("rank"), positions)
