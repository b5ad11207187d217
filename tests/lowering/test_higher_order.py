"""Higher-order operators: branches, loops, scans, maps and flex attention, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.sampled(2)


def branch(x):
    return torch.cond(x.sum() > 0, lambda x: x.sin() + 1, lambda x: x.cos().cumsum(0), (x,))


def nested(x):
    def inner(x):
        return torch.cond(x.mean() > 5, lambda x: x * 2, lambda x: x * 3, (x,))

    return torch.cond(x.sum() > 0, inner, lambda x: x.cos(), (x,))


def loop(x):
    return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.1), (torch.tensor(0), x))


def carried(x):
    return scan(lambda carry, y: (carry + y, carry * y), x[0], x)


def running_product(x):
    return associative_scan(lambda a, b: a * b, x, 0, combine_mode="generic")


def mapped(x):
    return map_over(lambda row, shift: row.sin() + shift, x, x[0] * 1)


@pytest.mark.parametrize("function", [branch, nested, loop, carried, running_product, mapped], ids=lambda f: f.__name__)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_control_flow(matches_eager, function, sign):
    matches_eager(function, sign * torch.rand(4, 3))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo's own access
@pytest.mark.parametrize("function", [branch, carried, running_product, mapped], ids=lambda f: f.__name__)
def test_gradients_through_control_flow(function):
    def loss(x):
        leaves = torch.utils._pytree.tree_leaves(function(x))
        return sum(leaf.square().sum() for leaf in leaves)

    x = torch.rand(4, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(x), x)
    (actual,) = torch.autograd.grad(torch.compile(loss, backend="tpu", fullgraph=True)(x), x)
    torch.testing.assert_close(actual, expected)


def recurrence(x, w):
    return scan(lambda carry, y: (torch.tanh(carry @ w + y), (carry @ w) * 2), x[0], x)[1].sum()


def recurrence_of_a_tree(x, w):
    def step(carry, y):
        return {"state": torch.tanh(carry["state"] @ w + y["in"])}, carry["state"] * y["in"]

    carry, outputs = scan(step, {"state": x[0]}, {"in": x}, reverse=True)
    return carry["state"].sum() + outputs.square().sum()


def affine(x, w):
    def combine(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return associative_scan(combine, (x, x * 2), 0, combine_mode="generic")[1].sum() * w.sum()


def mapped_tree(x, w):
    return map_over(lambda rows, w: {"out": (rows[0] @ w).sin() * rows[1]}, (x, x * 2), w)["out"].sum()


def nested_branches(x, w):
    def inner(x, w):
        return torch.cond(x[0, 0, 0] > 5, lambda x, w: x * 2, lambda x, w: (x @ w).cos(), (x, w))

    return torch.cond(x.sum() > 0, inner, lambda x, w: x * w[0], (x, w)).sum()


@torch.compiler.nested_compile_region
def region(x, w):
    return (x @ w).tanh()


def regions(x, w):
    return (region(x, w) + region(region(x * 2, w), w)).sum()


def recomputed(x, w):
    def inner(x, w):
        return checkpoint(region, x, w, use_reentrant=False, preserve_rng_state=False).sin()

    return checkpoint(inner, x, w, use_reentrant=False).sum()


class Scaled(torch.autograd.Function):
    """A product whose gradient is not its own."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        return gradient @ w.t() * 3, (x.transpose(1, 2) @ gradient).sum(0)


def with_a_gradient_of_its_own(x, w):
    return Scaled.apply(x, w).sin().sum()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo's own access
@pytest.mark.filterwarnings("ignore:invoke_subgraph traced multiple backward graphs")
@pytest.mark.parametrize(
    "function",
    [
        recurrence, recurrence_of_a_tree, affine, mapped_tree, nested_branches, regions, recomputed,
        with_a_gradient_of_its_own,
    ],
)  # fmt: skip
def test_gradients_of_all_inputs(function):
    leaves = torch.linspace(0.1, 1, 30).reshape(5, 2, 3), torch.linspace(-1, 1, 9).reshape(3, 3)
    x, w = (leaf.requires_grad_() for leaf in leaves)
    compiled = torch.compile(function, backend="tpu", fullgraph=True)
    for actual, expected in zip(
        torch.autograd.grad(compiled(x, w), (x, w)), torch.autograd.grad(function(x, w), (x, w)), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_only_the_taken_branch_runs():
    def guarded(x):
        return torch.cond(x.sum() > 0, lambda x: x.log(), lambda x: torch.zeros_like(x), (x,))

    out = torch.compile(guarded, backend="tpu", fullgraph=True)(torch.full((3,), -1.0))
    assert out.tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("form", ["score", "mask-and-captured", "grouped-queries"])
def test_flex_attention(matches_eager, form):
    query = torch.randn(1, 2, 16, 8)
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 16, 16, device="cpu", BLOCK_SIZE=16)
    bias = torch.randn(2, 16, 16)
    forms = {
        "score": lambda q, b: flex_attention(q, q, q, score_mod=lambda s, _b, _h, i, j: s + 0.1 * (i - j)),
        "mask-and-captured": lambda q, b: flex_attention(
            q, q, q, score_mod=lambda s, _b, h, i, j: s + b[h, i, j], block_mask=mask
        ),
        "grouped-queries": lambda q, b: flex_attention(q, q[:, :1], q[:, :1], enable_gqa=True),
    }
    matches_eager(forms[form], query, bias)
