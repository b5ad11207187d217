"""Symbolic sizes are read from a call and put into the graph."""

from __future__ import annotations

import torch

from tpu_dynamo_lowering import size_sources
from tpu_dynamo_lowering._torch_compat import fake_mode
from tpu_dynamo_lowering.sizes import bind_sizes

from .graphs import traced


def shapes(x, y):
    n = x.shape[0]
    return x.reshape(n * 2, -1) + 1, y.new_zeros(n + y.shape[0]), n * y.shape[0]


def symbolic():
    return traced(shapes, torch.randn(4, 6), torch.randn(3), symbolic=True)


def test_each_symbol_is_read_from_a_dimension_once():
    sources = size_sources(symbolic())
    assert [(source.position, source.dimension) for source in sources] == [(0, 0), (0, 1), (1, 0)]
    assert [source.read([torch.empty(5, 7), torch.empty(2)]) for source in sources] == [5, 7, 2]


def test_a_static_graph_has_no_symbols():
    assert size_sources(traced(lambda x: x + 1, torch.randn(3))) == ()


def test_binding_gives_numbers_everywhere_and_leaves_the_graph_alone():
    graph = symbolic()
    before = str(graph.graph)
    sizes = dict(zip((source.symbol for source in size_sources(graph)), (8, 2, 5), strict=True))
    bound = bind_sizes(graph, sizes, fake_mode())
    assert str(graph.graph) == before
    values = [node.meta["val"] for node in bound.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert all(type(size) is int for value in values for size in (*value.shape, *value.stride()))
    first, second, product = bound.graph.output_node().args[0]
    assert tuple(first.meta["val"].shape) == (16, 1)
    assert tuple(second.meta["val"].shape) == (13,)
    assert product == 40
    assert not [n for n in bound.graph.nodes if n.op == "call_function" and isinstance(n.meta["val"], int)]
