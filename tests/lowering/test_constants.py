"""Values that depend on no input: computed by lowering, never to other values, and within bounds."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import lower, prepare
from tpu_dynamo_lowering.constants import constant_values, write_constants

from .graphs import traced

aten = torch.ops.aten


def written(function, *args):
    """The graph of a function after its constants were written, and the constants."""
    graph_module = traced(function, *args)
    before = {name for name, _ in graph_module.named_buffers()}
    (value,) = (node.meta["val"] for node in graph_module.graph.find_nodes(op="placeholder")[:1])
    write_constants(graph_module, constant_values(graph_module), value.fake_mode)
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module, {name: buffer for name, buffer in graph_module.named_buffers() if name not in before}


def running_sum(x):
    return x + torch.arange(6).flip(0).cumsum(0)


def gathered(x):
    return x * torch.arange(12.0).view(2, 6)[:, torch.tensor([0, 2, 4, 1, 3, 5])].sum(0)


def expanded(x):
    return x + torch.arange(6).cumsum(0)[None].expand(3, 6) * 2


def negative_zero(x):
    return x / torch.tensor([0.0, -0.0, 0.0, 0.0, 0.0, -0.0]).cumsum(0)


def nans(x):
    return x + torch.full((3, 6), float("nan")).cumsum(0)


DEAR = [running_sum, gathered, expanded, negative_zero, nans]


def triangle(x):
    return torch.where(torch.arange(6) >= torch.arange(3)[:, None], x, 0)


def a_whole_number(x):
    return x + torch.arange(6).to(torch.float32) * 2


def drawn(x):
    return x + torch.rand(6).cumsum(0)


def from_the_input(x):
    return torch.ones_like(x).cumsum(0) + torch.arange(6) * x


def too_large(x):
    return x + torch.zeros(2**21 + 6).cumsum(0)[:6].expand(3, 6) + torch.arange(2**20, dtype=torch.int64).cumsum(0)[:6]


def returned(x):
    return x, torch.arange(6).cumsum(0)


LEFT = [triangle, a_whole_number, drawn, from_the_input, returned]


@pytest.mark.parametrize("function", DEAR)
def test_what_takes_a_pass_of_its_own_is_a_constant(function):
    x = torch.randn(3, 6)
    graph_module, constants = written(function, x)
    assert constants
    assert not {aten.cumsum.default, aten.index.Tensor, aten.flip.default} & {
        n.target for n in graph_module.graph.nodes
    }
    (found,) = graph_module(x)
    torch.testing.assert_close(found, function(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", [*DEAR, *(f for f in LEFT if f is not drawn), too_large])
def test_values_are_eagers(matches_eager, function):
    matches_eager(function, torch.randn(3, 6))


@pytest.mark.parametrize("function", LEFT)
def test_other_values_are_left_to_the_program(function):
    graph_module, constants = written(function, torch.randn(3, 6))
    assert not constants
    assert str(graph_module.graph) == str(traced(function, torch.randn(3, 6)).graph)


def test_equal_slices_are_written_once():
    _, constants = written(expanded, torch.randn(3, 6))
    assert [tuple(constant.shape) for constant in constants.values()] == [(1, 6)]


def test_a_program_gets_no_more_than_its_share_of_constants():
    program = lower(prepare(traced(too_large, torch.randn(3, 6))), {}, platform="tpu")
    assert sum(constant.numel() * constant.dtype.itemsize for constant in program.constants) <= 4 * 2**20
    assert len(program.stablehlo) < 2**20


def test_what_a_graph_writes_to_stays(matches_eager):
    def function(x):
        running = torch.arange(6.0).cumsum(0)
        first = running * 1
        running[2] = x[0, 0]
        running.add_(1)
        return first + x, running + x

    matches_eager(function, torch.randn(3, 6))


def test_autocast_changes_no_constant(matches_eager):
    def function(x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            weights = torch.linspace(0, 1, 36).view(6, 6) @ torch.linspace(0, 1, 36).view(6, 6)
        return x @ weights

    with torch.autocast("cpu", dtype=torch.bfloat16):
        matches_eager(function, torch.randn(3, 6))


def test_a_constant_may_be_used_twice(matches_eager):
    def function(x):
        scale = torch.tensor([1.5, 2.5, -1.0])
        return torch.softmax(x * scale, 0), scale.sort(), scale.cumsum(0)[None], torch.linalg.vector_norm(scale)

    matches_eager(function, torch.randn(4, 3))
