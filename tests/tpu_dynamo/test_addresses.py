"""Memory found again by its address: strides, lazy bits and temporary copies are never mistaken for it."""

from __future__ import annotations

import gc

import pytest
import torch

TRANSFERS = pytest.mark.parametrize("transfer", ["shared", "copy"])


@TRANSFERS
def test_a_parameter_transposed_in_place_keeps_its_address_and_is_seen(transfer):
    model = torch.nn.Linear(8, 8, bias=False)
    compiled = torch.compile(model, backend="tpu", options={"transfer": transfer})
    x = torch.randn(3, 8)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(compiled(x), model(x))
        model.weight.data = model.weight.data.t()
        torch.testing.assert_close(compiled(x), model(x))


def test_a_temporary_copy_at_a_known_address_outlives_the_call():
    from tpu_dynamo_runtime import Operand, client
    from tpu_dynamo_runtime.shared import Moving

    moving = Moving(client("cpu"), Operand(0))
    memory = torch.arange(64.0)
    for _ in range(3):
        moving(memory)

    class Copied(Operand):
        def dense(self, tensor):
            return memory  # a copy that the allocator put where the last input lay

    moving._operand = Copied(0)
    before = moving._known[1]
    assert moving(torch.zeros(64)) is not before


@TRANSFERS
def test_inference_tensors_and_others_may_take_turns(transfer):
    model = torch.nn.Linear(4, 4)
    compiled = torch.compile(lambda weight, x: x @ weight, backend="tpu", options={"transfer": transfer})
    x = torch.randn(2, 4)
    with torch.inference_mode():
        inferred = torch.randn(4, 4)
        for weight in (model.weight, inferred, model.weight, inferred):
            torch.testing.assert_close(compiled(weight, x), x @ weight)
    gc.collect()


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_lazily_conjugated_and_negated_inputs(device):
    compiled = torch.compile(lambda x: x * 2, backend="tpu")
    z = torch.tensor([1 + 2j, 3 - 4j]).to(device)
    torch.testing.assert_close(compiled(z.conj()).cpu(), (z.cpu().conj() * 2).resolve_conj())
    torch.testing.assert_close(compiled(z.conj().imag).cpu(), z.cpu().conj().imag * 2)
