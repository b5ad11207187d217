"""Training through the ordinary loop: compiled model, loss.backward(), eager optimizer; as eager in every respect."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)


def steps(model, batches, compiled: bool, optimizer=torch.optim.AdamW, autocast=None, count: int = 5):
    """Losses, parameters and buffers after `count` steps."""
    model = copy.deepcopy(model)
    function = torch.compile(model, backend="tpu") if compiled else model
    optimise = optimizer(model.parameters(), lr=1e-2)
    losses = []
    for step in range(count):
        x, y = batches[step % len(batches)]
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            loss = F.cross_entropy(function(x).float(), y)
        optimise.zero_grad()
        loss.backward()
        optimise.step()
        losses.append(loss.detach())
    return torch.stack(losses), dict(model.named_parameters()), dict(model.named_buffers())


def agree(model, batches, rtol=1e-4, atol=1e-5, **options):
    torch._dynamo.reset()
    ours, theirs = steps(model, batches, True, **options), steps(model, batches, False, **options)
    torch.testing.assert_close(ours[0], theirs[0], rtol=rtol, atol=atol)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        for name, expected in other.items():
            torch.testing.assert_close(
                mine[name], expected, rtol=rtol, atol=10 * atol, msg=lambda m, n=name: f"{n}: {m}"
            )


def batches(*shape: int):
    return [(torch.randn(*shape), torch.randint(0, 5, (shape[0],))) for _ in range(2)]


class Residual(nn.Module):
    """Convolutions, batch norm, pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, momentum=0.3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(x + self.second(x), 2)
        return self.head(x.mean((2, 3)))


class Tied(nn.Module):
    """An embedding whose weight is also the output layer's."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.out = nn.Linear(8, 5, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        return self.out(self.layer(self.embedding(ids)).mean(1))


def test_batch_norm_statistics_and_every_gradient():
    agree(Residual(), batches(4, 3, 8, 8))


def test_channels_last():
    agree(
        Residual().to(memory_format=torch.channels_last),
        [(x.to(memory_format=torch.channels_last), y) for x, y in batches(4, 3, 8, 8)],
    )


@pytest.mark.parametrize("options", [{}, {"transfer": "copy"}], ids=str)
def test_a_result_in_another_memory_order_can_be_changed_in_place(options):
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)

    def gradient(model):
        y = model(x)
        y.mul_(2)
        return y.stride(), *torch.autograd.grad(y.square().sum(), layer.parameters())

    torch.testing.assert_close(gradient(torch.compile(layer, backend="tpu", options=options)), gradient(layer))


def test_tied_weights():
    data = [(torch.randint(0, 5, (4, 6)), torch.randint(0, 5, (4,))) for _ in range(2)]
    # The gradient of the keys' bias is zero but for rounding, which Adam would blow up to full steps.
    agree(Tied(), data, optimizer=torch.optim.SGD)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 5))
    # Half precision rounds in other places: a few units in its last place, through five steps.
    precision = torch.finfo(dtype).eps
    agree(model, batches(16, 8), rtol=8 * precision, atol=4 * precision, autocast=dtype)


@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.NAdam], ids=lambda o: o.__name__
)
def test_optimizers(optimizer):
    agree(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 5)), batches(16, 8), optimizer=optimizer)


def test_frozen_parameters_get_no_gradient():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    torch.compile(model, backend="tpu")(torch.randn(3, 4)).sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None


def test_gradients_accumulate():
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend="tpu")
    x = torch.randn(3, 4)
    compiled(x).square().sum().backward()
    once = model.weight.grad.clone()
    compiled(x).square().sum().backward()
    torch.testing.assert_close(model.weight.grad, 2 * once)


def test_checkpointed_gradients_are_equal():
    layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
    x = torch.randn(4, 6, requires_grad=True)

    def run(x, recompute):
        for layer in layers:
            x = (
                checkpoint(lambda v, m=layer: torch.tanh(m(v)), x, use_reentrant=False)
                if recompute
                else torch.tanh(layer(x))
            )
        return x.square().sum()

    def gradients(function, recompute):
        return torch.autograd.grad(function(x, recompute), [x, *layers.parameters()])

    expected = gradients(run, False)
    compiled = torch.compile(run, backend="tpu", fullgraph=True)
    for recompute in (False, True):
        for ours, theirs in zip(gradients(compiled, recompute), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_double_backward_raises_what_torch_raises():
    x = torch.randn(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.compile(torch.sin, backend="tpu")(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        gradient.sum().backward()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=lambda c: c.__name__)
def test_without_gradients_there_is_one_inference_graph(context):
    model = nn.Linear(4, 2)
    with context():
        out = torch.compile(model, backend="tpu")(torch.randn(3, 4))
    assert not out.requires_grad
    assert tpu_dynamo.stats().graphs == {"inference": 1}


def test_hooks_on_gradients_run():
    model = nn.Linear(4, 2)
    seen = []
    model.weight.register_hook(lambda g: seen.append(g.shape))
    torch.compile(model, backend="tpu")(torch.randn(3, 4)).sum().backward()
    assert seen == [model.weight.shape]


def test_gradient_clipping_and_a_grad_scaler():
    model = nn.Linear(4, 2)
    x = torch.randn(3, 4)

    def clipped(function):
        model.zero_grad()
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        scaler.scale(function(x).square().sum()).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        return norm, model.weight.grad.clone()

    for ours, theirs in zip(clipped(torch.compile(model, backend="tpu")), clipped(model), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_can_be_compiled_with_its_foreach_optimizer():
    model = nn.Linear(4, 2)
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, foreach=True) for m in (model, twin)]
    compiled = torch.compile(optimizers[0].step, backend="tpu")
    for _ in range(3):
        x = torch.randn(5, 4)
        for m, optimizer, step in zip((model, twin), optimizers, (compiled, optimizers[1].step), strict=True):
            optimizer.zero_grad()
            m(x).square().sum().backward()
            step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("options", [{"partitioner": "default"}, {"activation_memory_budget": 0.0}, {}], ids=str)
def test_partitions_change_what_is_saved_and_no_gradient(options):
    def saved_and_gradient(options):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Tanh()) for _ in range(3)))
        compiled = torch.compile(model, backend="tpu", options=options) if options is not None else model
        x = torch.ones(4, 8)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            loss = compiled(x).sum()
        loss.backward()
        return sum(kept), model[0][0].weight.grad

    _, expected = saved_and_gradient(None)
    count, gradient = saved_and_gradient(options)
    torch.testing.assert_close(gradient, expected)
    everything, _ = saved_and_gradient({"partitioner": "default"})
    little, _ = saved_and_gradient({"activation_memory_budget": 0.0})
    assert little <= count <= everything
    assert little < everything


def test_saved_activations_stay_on_a_device_with_its_own_memory():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 5))
    compiled = torch.compile(model, backend="tpu", options={"transfer": "copy"})
    x, y = torch.randn(32, 16), torch.randint(0, 5, (32,))
    for _ in range(2):
        model.zero_grad()
        tpu_dynamo.reset_stats()
        output = compiled(x)
        assert tpu_dynamo.stats().bytes_to_host == output.nbytes
        F.cross_entropy(output, y).backward()
    stats = tpu_dynamo.stats()
    gradients = sum(p.nbytes for p in model.parameters())
    assert stats.bytes_to_host == output.nbytes + gradients
    # The batch, which is an input of the backward graph too, and the gradient of the output; parameters are there.
    assert stats.bytes_to_device == 2 * x.nbytes + output.nbytes
    expected = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected))


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_backward_inside_of_a_compiled_function_is_one_execution(device):
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4))
    model = copy.deepcopy(reference).to(device)

    def gradients(model, x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    x, y = torch.randn(6, 8), torch.randint(0, 4, (6,))
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(gradients, backend="tpu", fullgraph=True)
        for _ in range(2):
            model.zero_grad()
            tpu_dynamo.reset_stats()
            compiled(model, x.to(device), y.to(device))
    assert tpu_dynamo.stats().executions == 1
    gradients(reference, x, y)
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.cpu(), theirs.grad)
