"""Signals while a program runs, forked and spawned processes, and inputs that change as soon as a call has returned."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)


class Interrupted(BaseException):
    """Raised by the handler of the alarm, as that of Ctrl-C raises KeyboardInterrupt."""


@pytest.fixture
def alarm():
    """A function that has Interrupted raised after so many seconds."""

    def raise_it(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, raise_it)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def is_interrupted(alarm, delay: float, call) -> bool:
    """Call with the alarm set, whose right delay depends on the machine: return whether it came before the end."""
    try:
        try:
            alarm(delay)
            call()
        finally:
            alarm(0)
    except Interrupted:
        return True
    return False


class Slow(nn.Module):
    """Some tenths of a second of work."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1024, 1024)

    def forward(self, x):
        for _ in range(12):
            x = torch.sin(self.layer(x))
        return x


def test_an_interrupted_training_step_leaves_a_whole_model(alarm):
    torch.manual_seed(0)
    reference = Slow()
    model = copy.deepcopy(reference).to("tpu")
    theirs, ours = (torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9) for module in (reference, model))
    step = tpu_dynamo.train_step(model, ours, F.mse_loss)
    x, y = torch.randn(512, 1024), torch.zeros(512, 1024)
    on_device = x.to("tpu"), y.to("tpu")

    def eager():
        theirs.zero_grad()
        F.mse_loss(reference(x), y).backward()
        theirs.step()

    step(*on_device)
    eager()
    delay, while_it_ran = 0.05, 0
    for _ in range(60):
        before = model.layer.weight.cpu()
        interrupted = is_interrupted(alarm, delay, lambda: step(*on_device))
        changed = not torch.equal(model.layer.weight.cpu(), before)
        if changed:
            eager()  # the program has run to its end
        actual = {name: value.cpu() for name, value in model.state_dict().items()}
        torch.testing.assert_close(actual, reference.state_dict(), rtol=1e-4, atol=1e-6)
        while_it_ran += interrupted and changed
        if while_it_ran == 2:
            break
        if interrupted != changed:  # too late for this machine, or too early
            delay *= 1.5 if interrupted else 0.5
    assert while_it_ran == 2
    step(*on_device)
    eager()
    torch.testing.assert_close(model.layer.weight.cpu(), reference.layer.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("transfer", ["shared", "copy"])
def test_an_interrupted_call_does_no_harm_to_the_next(alarm, transfer):
    model, x = Slow(), torch.randn(512, 1024)
    compiled = torch.compile(model, backend="tpu", options={"transfer": transfer})
    with torch.no_grad():
        expected = model(x)
        compiled(x)
        delay, interruptions = 0.03, 0
        while interruptions < 3:
            interrupted = is_interrupted(alarm, delay, lambda: compiled(x))
            interruptions += interrupted
            delay *= 1 if interrupted else 0.5
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transfer", ["shared", "copy"])
def test_an_input_may_be_overwritten_as_soon_as_the_call_has_returned(transfer):
    model = Slow()
    compiled = torch.compile(model, backend="tpu", options={"transfer": transfer})
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(512, 1024)
            expected = model(x)
            result = compiled(x)
            x.fill_(float("nan"))
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


class Rows(Dataset):
    """Rows that PyTorch makes, or a compiled function."""

    def __init__(self, function):
        self.function = function

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.function(torch.full((4,), float(index)))


def double(x):
    return x * 2


compiled_double = torch.compile(double, backend="tpu")


def call_compiled(x):
    return compiled_double(x)


@pytest.mark.filterwarnings("ignore:os.fork")
def test_workers_of_a_loader_after_something_was_compiled():
    expected = torch.arange(8.0).repeat_interleave(4).view(8, 4) * 2
    torch.testing.assert_close(compiled_double(torch.ones(4)), torch.full((4,), 2.0))
    # Forked, with work of PyTorch's own.
    batches = list(DataLoader(Rows(double), batch_size=4, num_workers=1, multiprocessing_context="fork"))
    torch.testing.assert_close(torch.cat(batches), expected)
    torch.testing.assert_close(compiled_double(torch.ones(4)), torch.full((4,), 2.0))
    # Forked, and calling what the parent compiled: an error instead of waiting for threads that are not there.
    with pytest.raises(RuntimeError, match=r'forked from one that runs programs on cpu.*\n.*get_context\("spawn"\)'):
        next(iter(DataLoader(Rows(call_compiled), num_workers=1, multiprocessing_context="fork", timeout=600)))
    assert "rejected" not in tpu_dynamo.stats().cache_faults
    # Spawned.
    loader = DataLoader(Rows(call_compiled), batch_size=4, num_workers=1, multiprocessing_context="spawn")
    torch.testing.assert_close(torch.cat(list(loader)), expected)
