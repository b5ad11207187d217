"""Parameters stay on the device between calls, and never stale: every way of changing one is seen by the next call."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)

TRANSFERS = pytest.mark.parametrize("transfer", ["shared", "copy"])


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)).eval()


def add_in_place(model):
    with torch.no_grad():
        model[0].weight.add_(1)


def assign_data(model):
    model[0].weight.data = torch.full_like(model[0].weight, 0.25)


def set_storage(model):
    with torch.no_grad():
        model[2].bias.set_(torch.tensor([3.0, 4.0, 5.0]))


def load_another(model):
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def write_through_numpy_memory(model):
    model[0].weight.detach().view(-1)[::2].mul_(3)


def replace(model):
    model[2].weight = torch.nn.Parameter(torch.full((3, 8), 0.5))


def change_a_buffer(model):
    model[1].running_mean.fill_(2)


def non_contiguous(model):
    model[0].weight.data = torch.randn(6, 8).t()


CHANGES = [add_in_place, assign_data, set_storage, load_another, write_through_numpy_memory, replace, change_a_buffer,
           non_contiguous]  # fmt: skip


@TRANSFERS
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_next_call_sees_a_change(change, transfer):
    model, x = small(), torch.randn(4, 6)
    compiled = torch.compile(model, backend="tpu", options={"transfer": transfer})
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(compiled(x), model(x))
        change(model)
        torch.testing.assert_close(compiled(x), model(x))


@TRANSFERS
def test_an_eager_optimizer_is_seen(transfer):
    ours, theirs = small().train(), small().train()
    compiled = torch.compile(ours, backend="tpu", options={"transfer": transfer})
    steps = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (ours, theirs)]
    for _ in range(4):
        x = torch.randn(5, 6)
        for run, optimizer in ((compiled, steps[0]), (theirs, steps[1])):
            optimizer.zero_grad()
            run(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_a_warm_call_moves_its_inputs_and_outputs_and_nothing_else():
    model, x = small(), torch.randn(4, 6)
    compiled = torch.compile(model, backend="tpu", options={"transfer": "copy"})
    with torch.no_grad():
        compiled(x)
        tpu_dynamo.reset_stats()
        compiled(x)
    stats = tpu_dynamo.stats()
    assert (stats.bytes_to_device, stats.bytes_to_host) == (x.nbytes, 4 * 3 * 4)


def test_programs_share_one_copy_of_a_parameter():
    model = small().train()
    compiled = torch.compile(model, backend="tpu", options={"transfer": "copy"})
    tpu_dynamo.reset_stats()
    count = sum(tensor.nbytes for tensor in model.parameters())
    held = tpu_dynamo.memory().parameters
    for size in (4, 5, 6):
        x = torch.randn(size, 6)
        with torch.no_grad():
            compiled(x)
        compiled(x).sum().backward()  # forward and backward, for each size
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    assert count <= tpu_dynamo.memory().parameters - held <= count + buffers
    with torch.no_grad():
        model[0].weight.add_(1)
        tpu_dynamo.reset_stats()
        model.eval()
        expected = model(x)
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(compiled(x[:4]), expected[:4])


def test_one_function_serves_two_models_in_turn():
    one = small()
    two = copy.deepcopy(one)
    with torch.no_grad():
        two[0].weight.mul_(2)

    @torch.compile(backend="tpu", options={"transfer": "copy"})
    def call(model, x):
        return model(x)

    x = torch.randn(4, 6)
    with torch.no_grad():
        for model in (one, two, one, two):
            torch.testing.assert_close(call(model, x), model(x))


@TRANSFERS
def test_a_dropped_model_is_released(transfer):
    model, x = small(), torch.randn(4, 6)

    @torch.compile(backend="tpu", options={"transfer": transfer})
    def call(model, x):
        return model(x)

    with torch.no_grad():
        output = call(model, x)
    kept = output.clone()
    gone = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert gone() is None
    torch.testing.assert_close(output, kept)


def test_saved_parameters_are_the_parameters_themselves():
    model = torch.nn.Linear(300, 300)
    compiled = torch.compile(model, backend="tpu", options={"transfer": "copy"})
    x = torch.randn(2, 300, requires_grad=True)
    compiled(x).sum().backward()
    tpu_dynamo.reset_stats()
    compiled(x)
    # The forward graph saves the weight for the gradient of x; it does not come back from the device.
    assert tpu_dynamo.stats().bytes_to_host < 300 * 300 * 4


def test_an_unaligned_parameter_is_copied_with_each_call():
    memory = torch.zeros(65)
    model = torch.nn.Linear(8, 8, bias=False)
    model.weight.data = memory[1:].view(8, 8)
    compiled = torch.compile(model, backend="tpu")
    with torch.no_grad():
        for value in (1.0, 2.0, 3.0):
            memory.fill_(value)
            torch.testing.assert_close(compiled(torch.ones(1, 8)), torch.full((1, 8), 8 * value))


def test_executables_beyond_the_limit_are_unloaded_and_come_back():
    options = {"max_executables": 2, "cache": False}
    functions = [
        torch.compile(lambda x, k=k: x * k, backend="tpu", dynamic=False, options=options) for k in range(2, 6)
    ]
    x = torch.ones(7)
    tpu_dynamo.reset()
    for _ in range(2):
        for k, function in enumerate(functions, 2):
            assert float(function(x)[0]) == k
    stats = tpu_dynamo.stats()
    assert stats.lowerings == 4
    assert stats.xla_compiles == 8


def test_resetting_dynamo_unloads_graphs_and_a_function_still_held_works():
    from tpu_dynamo.session import session

    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x + 1, backend="tpu")
    compiled(torch.ones(3))
    assert session().loaded == 1
    torch._dynamo.reset()
    assert session().loaded == 0
    torch.testing.assert_close(compiled(torch.ones(3)), torch.full((3,), 2.0))
