"""A graph becomes one StableHLO program: what crosses, and what must not be left in it."""

from __future__ import annotations

import re

import pytest
import torch

from tpu_dynamo_lowering import Computed, Literal, LoweringFailed, TensorSpec, UnsupportedOp, View, choice, lower

from .graphs import traced

aten = torch.ops.aten


def lowered(function, *args, **options):
    return lower(traced(function, *args), {}, platform="cpu", **options)


def test_a_program_says_how_tensors_cross():
    program = lowered(lambda x, y: (x + y.t(), x.sum()), torch.randn(2, 3), torch.randn(2, 3).t().contiguous())
    assert [argument.position for argument in program.arguments] == [0, 1]
    assert program.results == (
        TensorSpec((2, 3), torch.float32, (0, 1)),
        TensorSpec((), torch.float32, ()),
    )
    assert program.outputs == (Computed(0), Computed(1))


def test_memory_order_is_part_of_the_signature_and_not_of_the_values():
    program = lowered(lambda x: x * 2, torch.randn(4, 3).t())
    assert program.arguments[0].spec.order == (1, 0)
    assert program.arguments[0].spec.physical_shape == (4, 3)
    assert "tensor<4x3xf32>" in program.text()


def test_only_stablehlo_and_chlo_are_left():
    def model(x, w):
        hidden = torch.relu(x @ w).unsqueeze(0).expand(2, -1, -1)
        return torch.bmm(hidden, hidden.transpose(1, 2)), torch.erf(x).cumsum(0), x.view(-1)[1:], (x > 0.5) | (x < 0)

    text = lowered(model, torch.randn(4, 3), torch.randn(3, 5)).text()
    dialects = set(re.findall(r"^\s*(?:%[\w:, %]+ = )?\"?(\w+)\.", text, re.MULTILINE))
    assert dialects <= {"stablehlo", "chlo", "func"}
    assert "dynamic" not in text


def test_equal_computations_have_one_digest_wherever_they_stand():
    def one(x):
        return x * 2

    def other(x):
        return x * 2

    def third(x):
        return x * 3

    x = torch.randn(3)
    assert lowered(one, x).digest == lowered(other, x).digest != lowered(third, x).digest


def test_equal_kernel_calls_share_their_code():
    text = lowered(lambda x: (torch.cumsum(x, 0), torch.cumsum(x + 1, 0), torch.cumsum(x, 1)), torch.randn(3, 4)).text()
    assert len(set(re.findall(r"func private @(kernel_\d+_cumsum_default)\(", text))) == 2
    assert len(re.findall(r"call @kernel_\d+_cumsum_default\(", text)) == 3


def test_outputs_in_one_memory_are_views_of_one_result():
    def views(x):
        y = x + 1
        return y.t(), y[1], None, 3

    program = lowered(views, torch.randn(2, 3))
    assert program.results == (TensorSpec((2, 3), torch.float32, (0, 1)),)
    assert program.outputs == (View(0, (3, 2), (1, 3), 0), View(0, (3,), (1,), 3), Literal(None), Literal(3))


def test_large_constants_are_arguments_and_small_ones_are_written_into_the_program():
    small, large = torch.arange(3.0), torch.randn(1000)
    program = lowered(lambda x: (x[:3] + small, x + large), torch.randn(1000))
    (constant,) = program.constants
    torch.testing.assert_close(constant, large)
    assert program.inputs == 1
    assert program.arguments[1].position == 1
    assert "dense<[0.000000e+00, 1.000000e+00, 2.000000e+00]>" in program.text()


@pytest.mark.parametrize(("setting", "precision"), [("highest", "HIGHEST"), ("high", "HIGH"), ("medium", "DEFAULT")])
def test_float32_contractions_have_the_precision_that_was_asked_for(setting, precision):
    def model(x, w):
        return x @ w, torch.nn.functional.linear(x, w.t(), x.new_zeros(5))

    text = lowered(model, torch.randn(4, 3), torch.randn(3, 5), matmul_precision=setting).text()
    asked = re.findall(r"dot_general .*?precision = \[(\w+), (\w+)\]", text)
    assert asked == [(precision, precision)] * 2


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_complex_and_grouped_contractions_have_it_too(platform):
    def model(z, rows, matrices, ends):
        product = torch.ops.tpu_dynamo.grouped_mm
        by_rows = product(rows, matrices, ends)
        return z @ z, by_rows, product(rows.t(), by_rows, ends)

    ends = torch.tensor([2, 2, 6], dtype=torch.int32)
    graph = traced(model, torch.randn(2, 2, dtype=torch.complex64), torch.randn(6, 8), torch.randn(3, 8, 4), ends)
    text = lower(graph, {}, platform=platform).text()
    asked = re.findall(r"(?:dot_general|ragged_dot\").*?precision(?:_config)? = \[(.*?)\]", text)
    assert len(asked) == (1 if platform == "tpu" else 3)  # on a TPU the grouped ones are kernels, with their precision
    assert all(words.count("HIGHEST") == 2 for words in asked)


def test_half_precision_contractions_have_no_precision_of_their_own():
    text = lowered(lambda x: x @ x, torch.randn(3, 3, dtype=torch.bfloat16)).text()
    assert "HIGHEST" not in text


def test_kernels_are_lowered_for_the_platform_that_was_asked_for():
    x = torch.randn(3, 3)
    graph = traced(lambda x: torch.linalg.qr(x), x)
    assert "lapack" in lower(graph, {}, platform="cpu").text()
    assert "lapack" not in lower(graph, {}, platform="tpu").text()


def test_a_pass_that_refuses_is_named_with_the_line(monkeypatch):
    monkeypatch.setattr(choice, "PATTERNS", {*choice.PATTERNS, aten.linalg_qr.default})
    with pytest.raises(LoweringFailed, match="failed to legalize operation") as caught:
        lowered(lambda x: torch.linalg.qr(x), torch.randn(3, 3))
    assert caught.value.stage == "torch-mlir"
    assert "aten.linalg_qr" in caught.value.artifacts["torch.mlir"]
    assert "linalg_qr" in caught.value.artifacts["rewritten.fx.py"]


def test_every_call_that_a_kernel_refuses_is_listed():
    def model(q):
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return attend(q, q, q, 0.5)[0] + attend(q, q, q, 0.25)[0]

    with pytest.raises(UnsupportedOp, match="2 operations of this graph") as caught:
        lowered(model, torch.randn(1, 2, 3, 4))
    assert len(caught.value.problems) == 2


def test_slices_past_the_end_need_no_memory():
    def model(x):
        y = torch.zeros_like(x)
        y[..., ::2] = x[..., 1::2]
        return y

    graph = traced(torch.func.functionalize(model), torch.randn(4, 64))
    assert len(lower(graph, {}, platform="cpu").stablehlo) < 20_000


def test_results_of_equal_calls_stay_apart_in_what_comes_after_them():
    def model(x, y):
        return torch.stack([torch.linalg.vector_norm(x), torch.linalg.vector_norm(y)])

    x, y = torch.ones(4), torch.full((4,), 2.0)
    compiled = torch.compile(model, backend="tpu")
    torch.testing.assert_close(compiled(x, y), torch.tensor([2.0, 4.0]))
