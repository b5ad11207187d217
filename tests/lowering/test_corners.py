"""Operators on nothing, on one sample, in mixed dtypes, and under other names."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._higher_order_ops.out_dtype import out_dtype

aten = torch.ops.aten


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (2, 4, 0), (2, 0, 5)], ids=str)
def test_normalisation_without_elements(matches_eager, shape):
    channels = torch.ones(shape[1])

    def normalise(x):
        last = torch.ones(shape[-1])
        return (
            aten.native_layer_norm(x, [shape[-1]], last, last, 1e-5),
            aten.native_layer_norm(x, list(shape), None, None, 1e-5),
            aten.native_dropout(x, 0.0, True),
            F.batch_norm(x, torch.zeros(shape[1]), channels, None, None, False),
            F.softmax(x, -1),
            torch.linalg.vector_norm(x),
            x.sum(), x.mean(), x.prod(), x.logsumexp(0), x.cumsum(0), x.any(), x.all(0),
        )  # fmt: skip

    matches_eager(normalise, torch.empty(shape))


def test_group_norm_of_no_channels(matches_eager):
    def normalise(x):
        return aten.native_group_norm(x, None, None, 3, 0, 1, 1, 1e-5)

    try:
        normalise(torch.empty(3, 0))
    except RuntimeError as refusal:
        pytest.skip(f"this torch refuses it in eager: {refusal}")
    matches_eager(normalise, torch.empty(3, 0))


@pytest.mark.parametrize("lengths", [(3, 0), (0, 3), (0, 0)], ids=str)
def test_attention_without_keys_or_queries(lengths):
    query, key = torch.randn(2, 2, lengths[0], 4), torch.randn(2, 2, lengths[1], 4)

    def gradients(function, device):
        inputs = [each.to(device).detach().requires_grad_() for each in (query, key, key)]
        output = function(*inputs)
        return [each.detach().cpu() for each in (output, *torch.autograd.grad(output.sum(), inputs))]

    expected = gradients(F.scaled_dot_product_attention, "cpu")
    compiled = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), backend="tpu", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, "cpu"), expected)
    torch.testing.assert_close(gradients(F.scaled_dot_product_attention, "tpu"), expected)


def test_likelihood_of_one_sample_without_a_batch(matches_eager):
    target, weights = torch.tensor(2), torch.rand(5)

    def losses(x):
        found = []
        for reduction, weight, ignored in itertools.product((0, 1, 2), (None, weights), (-100, 2)):
            loss, total = aten.nll_loss_forward(x, target, weight, reduction, ignored)
            found += [loss, total]
            for gradient in (torch.tensor(0.7), torch.tensor([0.7])):
                found.append(aten.nll_loss_backward(gradient, x, target, weight, reduction, ignored, total))
        return found

    matches_eager(losses, torch.randn(5))


@pytest.mark.parametrize(
    "dtypes",
    [(torch.float32, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)],
    ids=lambda pair: "-".join(str(dtype) for dtype in pair),
)
def test_gradients_and_values_of_two_dtypes(dtypes):
    gradient, value = torch.ones(3, 4, dtype=dtypes[0]), (torch.rand(3, 4) + 0.1).to(dtypes[1])

    def backward(g, x):
        return (
            aten.threshold_backward(g, x, 0.5), aten.hardtanh_backward(g, x, 0, 0.5), aten.silu_backward(g, x),
            aten.hardshrink_backward(g, x, 0.5), aten.softshrink_backward(g, x, 0.5), aten.tanh_backward(g, x),
            aten.sigmoid_backward(g, x), aten.hardswish_backward(g, x),
        )  # fmt: skip

    compiled = torch.compile(backward, backend="tpu", fullgraph=True)(gradient, value)
    torch.testing.assert_close(compiled, backward(gradient, value))


def test_out_dtype_of_every_operator_that_it_takes(matches_eager):
    def integers(a, b, c):
        found = []
        for dtype in (torch.int32, torch.int64, torch.float32):
            found += [
                out_dtype(aten.mm.default, dtype, a, b), out_dtype(aten.mul.Tensor, dtype, a, c),
                out_dtype(aten.mul.Scalar, dtype, a, 3), out_dtype(aten.div.Tensor, dtype, a, c),
            ]  # fmt: skip
        return found

    a, b, c = (torch.randint(1, 127, shape, dtype=torch.int8) for shape in ((5, 17), (17, 8), (5, 17)))
    matches_eager(integers, a, b, c)

    def halves(x, w):
        return (
            out_dtype(aten.convolution.default, torch.float32, x, w, None, [1], [0], [1], False, [0], 1),
            out_dtype(aten.linear.default, torch.float32, x[0], x[0]),
            out_dtype(aten.mm.default, torch.float32, x[0], x[0].t()),
        )

    matches_eager(halves, torch.randn(1, 5, 6).bfloat16(), torch.randn(3, 5, 2).bfloat16())


def test_convolutions_under_other_names(matches_eager):
    def convolve(x, w, b, y, v):
        ones = ([1, 1], [1, 1], [1, 1])
        return (
            aten._convolution(x, w, b, *ones, False, [0, 0], 1, False, False, True, True),
            aten._convolution(x, w, b, *ones, False, [0, 0], 1, False, False, True),
            aten.slow_conv_dilated2d(x, w, [3, 3], b, [1, 1], [0, 0], [2, 2]),
            aten.slow_conv_dilated2d(x[0], w, [3, 3], b, [1, 1], [0, 0], [2, 2]),
            aten._slow_conv2d_forward(x, w, [3, 3], b, [1, 1], [0, 0]),
            aten._slow_conv2d_forward(x, w.reshape(6, 36), [3, 3], b, [1, 1], [0, 0]),
            aten.slow_conv_transpose2d(x, w.transpose(0, 1), [3, 3], b),
            aten.slow_conv3d_forward(y, v, [3, 3, 3], b, [1, 1, 1], [0, 0, 0]),
            aten.slow_conv_dilated3d(y, v, [3, 3, 3], b),
            aten.slow_conv_transpose3d(y, v.transpose(0, 1), [3, 3, 3], b),
            aten._slow_conv2d_backward(torch.ones(2, 6, 4, 4), x, w, [3, 3], [1, 1], [0, 0], [True, True, True]),
        )

    x, w, b = torch.randn(2, 4, 6, 6), torch.randn(6, 4, 3, 3), torch.randn(6)
    matches_eager(convolve, x, w, b, torch.randn(2, 4, 5, 5, 5), torch.randn(6, 4, 3, 3, 3))


def test_trilinear_products_of_repeated_dimensions(matches_eager):
    def products(a, b, c):
        found = [aten._trilinear(a, b, c, [2], [0], [1], [1]), aten._trilinear(a, b, c, [2], [0], [1], [-1])]
        for expanded in ([], [0], [1]):
            given = a if not expanded else a[0] if expanded == [0] else a[:, 0]
            found += [aten._trilinear(given, given, given, *[expanded] * 3, summed) for summed in ([], [0], [1])]
        return [*found, aten._trilinear(a, a[:1], a, [], [], [], [0, 1]), aten._trilinear(a[0], a, a, [0], [], [], [1])]

    matches_eager(products, torch.randn(2, 3), torch.randn(3, 4), torch.randn(2, 4))


def test_operators_that_are_others_under_a_second_name(matches_eager):
    def calls(x):
        return (
            aten._aminmax(x), aten._aminmax(x, 1, True), aten._is_all_true(x > 1), aten._is_any_true(x > 1),
            aten._logcumsumexp(x, 1), aten._stack([x, x], 1), aten._lazy_clone(x), aten._add_relu(x - 5, x, alpha=2),
            aten._foreach_clone([x, x]), aten.any.dims(x), aten.all.dims(x), aten.unfold(x[0, 0], 0, 0, 1),
            aten.special_zeta(x + 1.5, 2.0), aten.special_zeta(2.5, x + 1.5), aten._pdist_forward(x[:1]),
        )  # fmt: skip

    matches_eager(calls, torch.arange(12.0).view(3, 4))
