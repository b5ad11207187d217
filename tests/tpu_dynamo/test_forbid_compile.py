"""Where compiling is forbidden, what is missing is an error that says why."""

from __future__ import annotations

import pytest
import torch

import tpu_dynamo


def test_what_is_compiled_goes_on_and_a_new_size_is_an_error_with_the_reason():
    compiled = torch.compile(lambda x: torch.tanh(x) @ x.t(), backend="tpu", dynamic=True)
    for rows in (3, 4):
        compiled(torch.randn(rows, 5))
    with tpu_dynamo.forbid_compile():
        compiled(torch.randn(4, 5))
        with pytest.raises(
            tpu_dynamo.CompileForbidden, match=r"(?s)test_forbid_compile.py:12.*x has shape \(9, 5\), was"
        ):
            compiled(torch.randn(9, 5))
    compiled(torch.randn(9, 5))


def test_the_option_forbids_and_the_cache_still_serves():
    def function(x):
        return x * 3 + 1

    x = torch.randn(4)
    with pytest.raises(Exception, match="TPU402"):
        torch.compile(function, backend="tpu", options={"forbid_compile": True})(x)
    torch.compile(function, backend="tpu")(x)
    torch._dynamo.reset()
    tpu_dynamo.reset()
    torch.testing.assert_close(torch.compile(function, backend="tpu", options={"forbid_compile": True})(x), x * 3 + 1)
    assert tpu_dynamo.stats().xla_compiles == 0


def test_eager_operators_are_held_to_it():
    x = torch.randn(3, device="tpu")
    with tpu_dynamo.forbid_compile(), pytest.raises(tpu_dynamo.CompileForbidden, match=r"eager operator aten\.erfinv"):
        torch.erfinv(x)
