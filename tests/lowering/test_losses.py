"""Losses at labels that end early, at nan and at infinities, forward and backward, against eager PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tpu_dynamo  # noqa: F401, which registers the device

pytestmark = pytest.mark.sampled(3)

INF, NAN = float("inf"), float("nan")
REDUCTIONS = ["none", "mean", "sum"]

LABELS = [
    [0, 2, -1, 1, 3],
    [4, 4, -1, 4, -1],
    [-1, 0, 1, 2, 3],
    [0, 1, 2, 3, 4],
    [3, -1, -1, -1, -1],
    [2, 0, -1, -1, 1],
]


def scores(dtype):
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[2, 3], values[3, 1], values[5, 0] = INF, -INF, NAN
    return values


def agree(function, *tensors, device="cpu"):
    """Values and gradients of the floating-point tensors, compiled and in eager on the CPU."""

    def run(function, device):
        given = [t.detach().clone().to(device).requires_grad_(t.is_floating_point()) for t in tensors]
        result = function(*given)
        wanted = [t for t in given if t.requires_grad]
        result.backward(torch.arange(1, result.numel() + 1).reshape(result.shape).to(device, result.dtype))
        return [result.detach().cpu(), *(t.grad.cpu() for t in wanted)]

    compiled = torch.compile(function, backend="tpu", fullgraph=True, dynamic=False)
    expected = run(function, "cpu")
    for ours in (run(compiled, device), *([run(function, device)] if device != "cpu" else [])):
        torch.testing.assert_close(ours, expected, equal_nan=True)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rows", [slice(None), 0], ids=["batch", "single"])
def test_labels_end_at_the_first_minus_one(rows, reduction):
    agree(
        lambda x, t: F.multilabel_margin_loss(x, t, reduction=reduction), scores(torch.float32)[rows],
        torch.tensor(LABELS)[rows],
    )  # fmt: skip


def test_labels_end_early_in_doubles_and_on_the_device():
    agree(F.multilabel_margin_loss, scores(torch.float64), torch.tensor(LABELS))
    agree(F.multilabel_margin_loss, scores(torch.float32), torch.tensor(LABELS), device="tpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_margins_of_half_precision_are_near_those_of_float32(dtype):
    given, labels = scores(torch.float32)[:2].to(dtype), torch.tensor(LABELS)[:2]
    compiled = torch.compile(F.multilabel_margin_loss, backend="tpu", fullgraph=True)
    torch.testing.assert_close(compiled(given, labels), F.multilabel_margin_loss(given.float(), labels).to(dtype))


def test_both_results_of_the_forward_operator(matches_eager):
    given, labels = scores(torch.float32), torch.tensor(LABELS)
    matches_eager(lambda x, t: torch.ops.aten.multilabel_margin_loss_forward(x, t, 0), given, labels)


def test_other_backends_keep_the_definition_of_torch():
    given, labels = torch.tensor([[0.1, 0.2, 0.4, 0.8]]), torch.tensor([[0, 2, -1, 1]])
    before = torch.compile(F.multilabel_margin_loss, backend="aot_eager")(given, labels)
    torch._dynamo.reset()
    torch.compile(F.multilabel_margin_loss, backend="tpu")(given, labels)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(F.multilabel_margin_loss, backend="aot_eager")(given, labels), before)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_margins_of_one_label_leave_nan_out(p, weighted):
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0]) if weighted else None
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    for reduction in REDUCTIONS[:2]:
        torch._dynamo.reset()
        agree(
            lambda x, r=reduction: F.multi_margin_loss(x, labels, p=p, margin=0.3, weight=weight, reduction=r),
            scores(torch.float32),
        )


SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, INF, -INF, NAN, 1e-8, 0.3, 0.8, 0.7])


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_smooth_l1_loss_of_special_values(beta, reduction):
    x, y = SPECIAL.repeat_interleave(14), SPECIAL.repeat(14)
    agree(lambda x, y: F.smooth_l1_loss(x, y, beta=beta, reduction=reduction), x, y)


@pytest.mark.parametrize("eps", [None, 0.0, 0.2, 0.5, 0.7])
def test_logit_of_special_values(eps):
    agree(lambda x: torch.logit(x, eps), SPECIAL)
