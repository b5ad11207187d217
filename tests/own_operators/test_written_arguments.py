"""Operators that write to their arguments, Triton kernels, and Triton operators: what runs, and what is refused."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_functional, triton_kernel_wrapper_mutation
from torch.fx import Graph, GraphModule

import tpu_dynamo
from tpu_dynamo_lowering.refusals import refusal

ALONE = {"fallback": "operator"}


@torch.library.custom_op("own_tests_written::accumulate", mutates_args=("total", "count"))
def accumulate(total: Tensor, x: Tensor, count: Tensor | None = None) -> Tensor:
    """Add to `total` and to `count`, and return what is added."""
    total.add_(x)
    if count is not None:
        count.add_(1)
    return x.clone()


accumulate.register_fake(lambda total, x, count=None: torch.empty_like(x))


@torch.library.custom_op("own_tests_written::scale_all", mutates_args=("tensors",))
def scale_all(tensors: list[Tensor], by: float) -> None:
    """Multiply each of a list in place."""
    for tensor in tensors:
        tensor.mul_(by)


scale_all.register_fake(lambda tensors, by: None)


def an_input(x, y):
    return accumulate(x, y) * 2


def a_view_of_an_input(x, y):
    accumulate(x[1], y[0], x[0])
    return x.sum()


def a_value_and_its_views(x, y):
    z = x.sin()
    row = z[0]
    accumulate(z.t(), y)
    return z + row, row * 2


def twice_the_same(x, y):
    accumulate(x, y)
    accumulate(x, x)
    return x.cos()


def a_list(x, y):
    z = y.exp()
    scale_all([x, z[0], z[2]], 3.0)
    return z


def a_result_that_is_an_input(x, y):
    scale_all([x], 0.5)
    return x, x.view(-1)


FUNCTIONS = [an_input, a_view_of_an_input, a_value_and_its_views, twice_the_same, a_list, a_result_that_is_an_input]


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_written_is_seen_wherever_it_is_read(function, device):
    x, y = torch.randn(3, 3), torch.randn(3, 3)
    wanted_x, wanted_y = x.clone(), y.clone()
    wanted = function(wanted_x, wanted_y)
    for run in (torch.compile(function, backend="tpu", options=ALONE, fullgraph=True), function):
        found_x, found_y = x.clone().to(device), y.clone().to(device)
        found = run(found_x, found_y)
        torch.testing.assert_close((found, found_x, found_y), (wanted, wanted_x, wanted_y), check_device=False)


def test_gradients_pass_what_was_written():
    def function(x):
        total = torch.zeros(3)
        accumulate(total, x.detach())
        return (x * total).sum()

    x = torch.randn(3, requires_grad=True)
    compiled = torch.compile(function, backend="tpu", options=ALONE, fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], x.detach())


@pytest.mark.parametrize("target", [triton_kernel_wrapper_mutation, triton_kernel_wrapper_functional], ids=str)
def test_triton_kernels_are_refused_in_words(target):
    graph = Graph()
    x = graph.placeholder("x")
    call = graph.call_function(target, kwargs={"kernel_idx": 0, "constant_args_idx": 0, "kwargs": {"x": x}})
    graph.output(graph.call_function(operator.getitem, (call, "x")))
    GraphModule({}, graph)
    problem = refusal(call)
    assert "a Triton kernel is code for GPUs" in problem.why
    assert "tpu_dynamo.jax_op" in problem.hint


def test_an_operator_of_triton_is_what_it_computes_without_a_kernel():
    @torch.library.triton_op("own_tests_written::add_one", mutates_args=())
    def add(x: Tensor) -> Tensor:
        return x + 1

    for device in ("cpu", "tpu"):
        x = torch.ones(3, device=device)
        found = torch.compile(lambda x: add(x.sin()) * 2, backend="tpu", fullgraph=True)(x)
        torch.testing.assert_close(found, (x.sin() + 1) * 2)
    assert not tpu_dynamo.stats().fallbacks
