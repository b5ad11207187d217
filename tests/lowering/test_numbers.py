"""Python numbers that a tensor's dtype cannot hold: what eager computes of them is computed, wrapped where it wraps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.lowering.numbers import OPERATIONS, VALUES, tensors

INF, NAN = float("inf"), float("nan")

# Of halves eager rounds the number first, and takes the logarithm of an infinity; ours is the logarithm of the number.
_MORE_EXACT = {("xlogy", torch.float16)}


# XLA makes a selection of a product with a boolean, so that false times nan is zero.
_SELECTED = ("mul", "mul_", "div", "div trunc", "div floor", "scalar mul")


def computed(dtype: torch.dtype, number: Any) -> dict[str, Tensor]:
    """Return eager's results by operation; what it refuses is left out."""
    x, mask = tensors(dtype)
    found = {}
    for name, function in OPERATIONS.items():
        try:
            found[name] = function(x, mask, number)
        except (RuntimeError, OverflowError, TypeError, ValueError):
            continue
    selected = _SELECTED if dtype == torch.bool and not math.isfinite(number) else ()
    return {name: v for name, v in found.items() if (name, dtype) not in _MORE_EXACT and name not in selected}


def compare(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    wrong = []
    for name, value in expected.items():
        try:
            torch.testing.assert_close(actual[name], value, equal_nan=True)
        except AssertionError:
            wrong.append(f"{name}: {actual[name]} instead of {value}")
    assert not wrong, "\n".join(wrong)


def check_compiled(dtype: torch.dtype, number: Any) -> None:
    """Compile every operation that eager computes into one program, and compare the results."""
    expected = computed(dtype, number)

    def everything(x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {name: OPERATIONS[name](x, mask, number) for name in expected}

    torch._dynamo.reset()
    compare(torch.compile(everything, backend="tpu", fullgraph=True, dynamic=False)(*tensors(dtype)), expected)


def check_device(dtype: torch.dtype, number: Any, *only: str) -> None:
    """Run the operations, or only some, on the device, and compare with eager on the CPU."""
    expected = {name: value for name, value in computed(dtype, number).items() if not only or name in only}
    x, mask = (tensor.to("tpu") for tensor in tensors(dtype))
    compare({name: OPERATIONS[name](x, mask, number).cpu() for name in expected}, expected)


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        pytest.param(torch.uint8, -3, id="uint8-negative"),
        pytest.param(torch.int8, 200, id="int8-past-the-end"),
        pytest.param(torch.int16, 1.5, id="int16-and-a-float"),
        pytest.param(torch.bool, 2, id="bool"),
        pytest.param(torch.uint16, 2**33, id="uint16-past-32-bits"),
        pytest.param(torch.float16, 1e6, id="float16-past-the-end"),
    ],
)
def test_operators_compute_what_eager_does_of_numbers_that_the_dtype_cannot_hold(dtype, number):
    check_compiled(dtype, number)


@pytest.mark.parametrize(
    ("dtype", "number"),
    [pytest.param(torch.uint8, -3, id="uint8-negative"), pytest.param(torch.uint8, 1.5, id="uint8-and-a-float")],
)
def test_the_device_takes_numbers_as_eager_does(dtype, number):
    some = ("lt", "add", "add alpha", "rsub with alpha", "mul", "div", "floor_divide", "remainder", "clamp_min",
            "where other", "addcmul", "isin number", "_foreach_add", "scalar gt", "scalar add", "polynomial")  # fmt: skip
    check_device(dtype, number, *some)


def test_numbers_that_eager_refuses_are_refused_with_the_line():
    x = torch.tensor([1, 2], dtype=torch.uint8)
    for function in (
        lambda x: torch.full_like(x, 300),
        lambda x: x.clamp(0, 300),
        lambda x: torch.add(x, x, alpha=256),
    ):
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=r"without overflow[^$]*test_numbers\.py"):
            torch.compile(function, backend="tpu")(x)


def test_a_comparison_with_a_scalar_tensor_is_in_the_dtype_of_the_tensor_with_dimensions(matches_eager):
    x = torch.tensor([0.1, 0.2], dtype=torch.float32)
    matches_eager(lambda x, n: (x == n, x > n, x <= n), x, torch.tensor(0.1, dtype=torch.float64))


NUMBERS = [-1, -3, -300, 2, 200, 300, 70000, 2**33, 2**63 - 1, 0.1, 1.5, -2.5, 1e6, INF, NAN]
DTYPES = [*VALUES, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_operator_with_every_number(dtype, number):
    check_compiled(dtype, number)
    check_device(dtype, number)
