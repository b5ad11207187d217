"""A CUDA-style script with "cuda" replaced by "tpu", in eager and compiled, against eager on the CPU."""

from __future__ import annotations

import io

import pytest
import torch

import tpu_dynamo

pytestmark = pytest.mark.sampled(3)


class Net(torch.nn.Module):
    """A small residual network for 8 by 8 images."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        self.second = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.head = torch.nn.Linear(4 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = x + torch.relu(self.second(x))
        return self.head(torch.nn.functional.max_pool2d(x, 2).flatten(1))


def train(device: str, backend: str | None, make_optimizer, scaled: bool = False, steps: int = 6):
    torch.manual_seed(0)
    model = Net().to(device)
    run = torch.compile(model, backend=backend) if backend else model
    optimizer = make_optimizer(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    scaler = torch.amp.GradScaler(device, enabled=scaled)
    data = torch.Generator().manual_seed(1)
    losses = []
    for step in range(steps):
        images, labels = torch.randn(6, 1, 8, 8, generator=data), torch.randint(0, 10, (6,), generator=data)
        if step == steps - 1:
            tpu_dynamo.reset_stats()
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        losses.append(loss.item())
        if step == 2:
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
    model.eval()
    with torch.no_grad():
        answer = run(images).cpu()
    return losses, answer, {name: value.cpu() for name, value in model.state_dict().items()}


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, eps=1e-4),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, eps=1e-4),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("backend", [None, "tpu"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_script_gives_what_the_cpu_gives(name, backend, scaled):
    expected = train("cpu", None, OPTIMIZERS[name], scaled)
    actual = train("tpu", backend, OPTIMIZERS[name], scaled)
    epsilon = torch.finfo(torch.float32).eps
    torch.testing.assert_close(actual, expected, rtol=epsilon**0.5, atol=100 * epsilon)


def test_a_step_moves_the_batch_in_and_the_loss_out():
    train("tpu", "tpu", OPTIMIZERS["sgd"])
    stats = tpu_dynamo.stats()
    batch = 6 * 64 * 4 + 6 * 8
    answers = 6 * 10 * 4 + sum(t.nbytes for t in Net().state_dict().values())
    assert stats.bytes_to_host <= 4 + answers + 8
    # Besides the batch: the numbers of the optimizer and of the clipping, eight bytes each.
    assert batch <= stats.bytes_to_device <= batch + 40 * 8
    assert stats.fallbacks == {}


def test_a_graph_break_moves_nothing():
    def function(x):
        y = x.sin() * 2
        torch._dynamo.graph_break()
        return y.cos() + 1

    compiled = torch.compile(function, backend="tpu")
    x = torch.randn(64).to("tpu")
    compiled(x)
    tpu_dynamo.reset_stats()
    y = compiled(x)
    stats = tpu_dynamo.stats()
    assert (stats.executions, stats.bytes_to_device, stats.bytes_to_host) == (2, 0, 0)
    torch.testing.assert_close(y.cpu(), function(x.cpu()))


def test_mutated_buffers_and_caches_are_updated_in_place():
    class Cache(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("keys", torch.zeros(4, 3))

        def forward(self, x, place):
            self.keys[place] = x
            return self.keys.sum(0)

    cache = Cache().to("tpu")
    keys = cache.keys
    compiled = torch.compile(cache, backend="tpu")
    place = torch.tensor(1).to("tpu")
    compiled(torch.ones(3).to("tpu"), place)
    compiled(torch.full((3,), 5.0).to("tpu"), place + 1)
    assert cache.keys is keys
    torch.testing.assert_close(keys.cpu()[:3], torch.tensor([[0.0] * 3, [1.0] * 3, [5.0] * 3]))


def test_memory_of_a_changed_buffer_is_taken_over_unless_a_copy_has_it():
    class Count(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(64))

        def forward(self, x):
            self.total += x
            return self.total.sum()

    count = Count().to("tpu")
    compiled = torch.compile(count, backend="tpu")
    one = torch.ones(64).to("tpu")
    with torch.no_grad():
        compiled(one)
        tpu_dynamo.reset_stats()
        compiled(one)
        assert tpu_dynamo.stats().donations == 1
        kept = count.total.clone()
        compiled(one)
    stats = tpu_dynamo.stats()
    assert stats.donations == 1
    assert sum(stats.donations_refused.values()) == 1
    assert kept.cpu().unique().tolist() == [2.0]
    assert count.total.cpu().unique().tolist() == [3.0]


def test_compiled_dropout_follows_the_device_generator():
    compiled = torch.compile(lambda x: torch.nn.functional.dropout(x, 0.5), backend="tpu")
    x = torch.ones(200).to("tpu")
    torch.manual_seed(3)
    first, second = compiled(x).cpu(), compiled(x).cpu()
    torch.manual_seed(3)
    assert torch.equal(compiled(x).cpu(), first)
    assert not torch.equal(first, second)


def test_mixed_inputs_are_refused_with_their_names():
    compiled = torch.compile(lambda x, y: x + y, backend="tpu")
    with pytest.raises(Exception, match=r"same device|several devices"):
        compiled(torch.ones(3).to("tpu"), torch.ones(3))
    torch.testing.assert_close(compiled(torch.ones(3).to("tpu"), torch.tensor(2.0)).cpu(), torch.full((3,), 3.0))
