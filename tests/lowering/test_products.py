"""Products of flattened tensors: made of the tensors as they are where a view follows, the same values always."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.nn.functional import gelu

from tpu_dynamo_lowering.products import restore_products

from .graphs import traced

pytestmark = pytest.mark.sampled(8)

aten = torch.ops.aten


def linear(x, weight, bias):
    return aten.addmm(bias, x.reshape(-1, 6), weight.t()).view(*x.shape[:-1], 4)


def not_transposed(x, weight, bias):
    return aten.addmm(bias, x.reshape(-1, 6), weight.view(6, 4)).view(*x.shape[:-1], 4)


def without_bias(x, weight, bias):
    return aten._unsafe_view(aten.mm(x.reshape(-1, 6), weight.t()), [*x.shape[:-1], 4])


def in_heads(x, weight, bias):
    return aten.addmm(bias, x.reshape(-1, 6), weight.t()).view(*x.shape[:-1], 2, 2)


def read_as_a_matrix_too(x, weight, bias):
    product = aten.addmm(bias, x.reshape(-1, 6), weight.t())
    return product.neg(), product.view(*x.shape[:-1], 4)


def gradient_of_the_weight(x, weight, bias):
    return aten.mm((x * 2).view(-1, 6).t(), x.view(-1, 6)), aten.mm((x * 2).view(-1, 6).permute(1, 0), x.view(-1, 6))


def gradient_with_a_matrix(x, weight, bias):
    return aten.mm(x.view(-1, 6).transpose(0, 1), weight.view(x.numel() // 6, -1))


def sums_of_rows(x, weight, bias):
    flat = x.view(-1, 6)
    return flat.sum(0), flat.sum([0], keepdim=True), flat.sum(-2)


RESTORED = [
    linear, not_transposed, without_bias, in_heads, read_as_a_matrix_too, gradient_of_the_weight, gradient_with_a_matrix,
    sums_of_rows,
]  # fmt: skip


def a_bias_for_each_row(x, weight, bias):
    return aten.addmm(x.view(-1, 6)[:, :4], x.view(-1, 6), weight.t()).view(*x.shape[:-1], 4)


def with_a_factor(x, weight, bias):
    return aten.addmm(bias, x.view(-1, 6), weight.t(), beta=2).view(*x.shape[:-1], 4)


def stays_a_matrix(x, weight, bias):
    return aten.addmm(bias, x.view(-1, 6), weight.t())


def viewed_otherwise(x, weight, bias):
    return aten.mm(x.view(-1, 6), weight.t()).view(-1, 2, 4)


def columns_flattened(x, weight, bias):
    flat = x.view(x.shape[0], -1)
    return aten.mm(flat, flat.t()).view(x.shape[0], 1, -1), flat.sum(1)


LEFT = [a_bias_for_each_row, with_a_factor, stays_a_matrix, viewed_otherwise, columns_flattened]


def operands(shape, dtype=torch.float32):
    return [torch.randn(size).mul(4).to(dtype) for size in (shape, (4, 6), (4,))]


def restored(function, shape):
    """The operators of a function's graph, and after the pass."""
    graph_module = traced(function, *operands(shape))
    before = Counter(str(node.target) for node in graph_module.graph.nodes)
    shapes = [node.meta["val"].shape for node in graph_module.graph.output_node().all_input_nodes]
    (value, *_) = (node.meta["val"] for node in graph_module.graph.nodes if "val" in node.meta)
    restore_products(graph_module, value.fake_mode)
    graph_module.graph.lint()
    assert [node.meta["val"].shape for node in graph_module.graph.output_node().all_input_nodes] == shapes
    return before, Counter(str(node.target) for node in graph_module.graph.nodes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32], ids=str)
@pytest.mark.parametrize("function", [*RESTORED, *LEFT])
def test_values_are_eagers(matches_eager, function, dtype):
    matches_eager(function, *operands((2, 3, 6), dtype))


@pytest.mark.parametrize("shape", [(0, 3, 6), (2, 0, 6), (1, 1, 6), (2, 1, 3, 6)], ids=str)
def test_values_are_eagers_of_any_shape(matches_eager, shape):
    def every(*args):
        return [f(*args) for f in RESTORED if 0 not in shape or f is not gradient_with_a_matrix]

    matches_eager(every, *operands(shape))


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 2, 3, 6)], ids=str)
@pytest.mark.parametrize("function", RESTORED)
def test_no_product_or_sum_of_a_flattened_tensor_is_left(function, shape):
    before, after = restored(function, shape)
    products = before["aten.mm.default"] + before["aten.addmm.default"]
    assert after["aten.mm.default"] + after["aten.addmm.default"] == 0
    assert after["aten.linear.default"] + after["aten.tensordot.default"] == products


@pytest.mark.parametrize("function", LEFT)
def test_products_of_other_matrices_stay(function):
    before, after = restored(function, (4, 3, 6))
    assert after == before


def test_a_chain_of_layers_has_no_views():
    def two_layers(x, weight, bias):
        hidden = gelu(torch.nn.functional.linear(x, weight, bias))
        return torch.nn.functional.linear(hidden, weight.t())

    before, after = restored(two_layers, (2, 3, 6))
    assert before["aten.view.default"] + before["aten._unsafe_view.default"] == 4
    assert after["aten.view.default"] + after["aten._unsafe_view.default"] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_gradients_of_layers_are_as_exact_as_eagers(dtype):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.GELU(), torch.nn.Linear(96, 64, bias=False))
    layers, x = layers.to(dtype), torch.randn(4, 9, 64, dtype=dtype)
    exact = [g.double() for g in gradients(layers.double(), x.double())]
    layers = layers.to(dtype)
    errors = [
        [(g.double() - e).abs().max() / e.abs().max() for g, e in zip(gradients(model, x), exact, strict=True)]
        for model in (layers, torch.compile(layers, backend="tpu"))
    ]
    for eager, ours in zip(*errors, strict=True):
        assert ours <= 1.1 * eager + 2 * torch.finfo(dtype).eps * (dtype == torch.float32)


def gradients(model, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])


def test_an_operator_inside_of_a_branch_is_restored():
    def branches(x, weight, bias):
        return torch.cond(
            x.sum() > 0, lambda x: without_bias(x, weight, bias), lambda x: without_bias(-x, weight, bias), (x,)
        )

    x, weight, bias = operands((2, 3, 6))
    torch.testing.assert_close(torch.compile(branches, backend="tpu")(x, weight, bias), branches(x, weight, bias))
