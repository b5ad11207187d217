"""compile_for with buckets: a graph for each bucket within the bounds."""

from __future__ import annotations

from typing import Any

import torch

import tpu_dynamo


def test_there_is_a_graph_for_each_bucket_forward_and_backward():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh())
    x = torch.empty(9, 6, device="meta")
    torch._dynamo.mark_dynamic(x, 0, min=5, max=40)
    options: Any = {"buckets": "pow2"}
    graphs = tpu_dynamo.compile_for(model, (x,), target="cpu", training=True, options=options)
    assert [graph.role for graph in graphs] == ["forward"] * 4 + ["backward"] * 4
    for role in ("forward", "backward"):
        texts = [graph.stablehlo for graph in graphs if graph.role == role]
        assert all(any(f"tensor<{rows}x5xf32>" in text for text in texts) for rows in (8, 16, 32, 40))
    assert len({graph.name for graph in graphs}) == 8
    assert len(tpu_dynamo.compile_for(model, (x,), target="cpu")) == 1
