"""The user's line is the innermost one outside torch."""

from __future__ import annotations

from pathlib import Path

import torch

import tpu_dynamo
from tpu_dynamo_lowering import SourceLine, lower, user_line

from .graphs import traced

OWN = 'File "/project/model.py", line 7, in forward\n    x = layer(x)'
INNER = f'File "{Path(torch.__file__).parent}/nn/functional.py", line 2500, in linear\n    return torch._C'


def node_with(trace: str | None) -> torch.fx.Node:
    node = torch.fx.Graph().placeholder("x")
    if trace is not None:
        node.meta["stack_trace"] = trace
    return node


def test_frames_of_torch_are_passed_over():
    assert user_line(node_with(f"{OWN}\n{INNER}")) == SourceLine("/project/model.py", 7, "forward")


def test_frames_of_the_backend_are_passed_over():
    gathering = (
        f'File "{Path(tpu_dynamo.__file__).parent}/training/gathering.py", line 91, in _gathered\n    whole = shards'
    )
    assert user_line(node_with(f"{OWN}\n{gathering}")) == SourceLine("/project/model.py", 7, "forward")


def test_a_trace_of_torch_alone_gives_its_innermost_frame():
    assert user_line(node_with(INNER)).function == "linear"


def test_no_trace_gives_none():
    assert user_line(node_with(None)) is None


def test_a_line_shows_its_text():
    line = SourceLine(__file__, 1, "f")
    assert str(line) == f'{__file__}:1 in f\n    """The user\'s line is the innermost one outside torch."""'


def test_a_file_that_is_gone_shows_its_place():
    assert str(SourceLine("/nowhere.py", 3)) == "/nowhere.py:3"


def test_every_operation_and_every_call_of_a_kernel_is_named_by_its_line():
    graph = traced(lambda x: torch.cumsum(torch.tanh(x), 0), torch.randn(3))
    for number, node in enumerate(node for node in graph.graph.nodes if node.op == "call_function"):
        node.meta["stack_trace"] = f'File "/project/model.py", line {number}, in forward\n{INNER}'
    text = lower(graph, {}, platform="tpu").text()
    tanh, cumsum = (f'loc("/project/model.py:{i}/aten.{op}.default"' for i, op in enumerate(["tanh", "cumsum"]))
    assert tanh in text
    assert cumsum in text
    # Of a kernel its own lines are kept, and none of who was lowering then.
    assert "kernels/scans.py" in text
    assert "pipeline.py" not in text
    assert __file__ not in text
