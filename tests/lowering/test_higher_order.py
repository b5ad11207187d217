"""Higher-order operators: branches, loops, scans, maps and flex attention, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


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
