"""tpu_dynamo.train_step: the ordinary loop's losses, parameters, buffers and state, in one execution a step."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.checkpoint import checkpoint

import tpu_dynamo
from tpu_dynamo import train_step

pytestmark = pytest.mark.sampled(4)

EPSILON = torch.finfo(torch.float32).eps


class Net(nn.Module):
    """Convolution, batch norm, attention and a head, with one parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.mix = nn.Linear(64, 16)
        self.head = nn.Linear(16, 4)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        x = F.max_pool2d(x, 2).flatten(1)
        q = torch.sin(self.mix(x)).view(-1, 1, 4, 4)
        return self.head(F.scaled_dot_product_attention(q, q, q).flatten(1))


def pair(make=Net):
    torch.manual_seed(0)
    reference = make()
    return reference, copy.deepcopy(reference).to("tpu")


def batch(size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 1, 8, 8, generator=generator), torch.randint(0, 4, (size,), generator=generator)


def eager(model, optimizer, x, y, max_grad_norm=None, loss_fn=F.cross_entropy):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return loss.detach()


def agree(model, reference):
    actual = {name: value.cpu() for name, value in model.state_dict().items()}
    torch.testing.assert_close(actual, reference.state_dict(), rtol=EPSILON**0.5, atol=100 * EPSILON)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2, eps=1e-4)  # a larger eps than noise of gradients that are zero


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_a_step_is_what_the_ordinary_loop_does_in_one_execution(max_grad_norm):
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy, max_grad_norm=max_grad_norm)
    for i in range(5):
        x, y = batch(seed=i)
        expected = eager(reference, theirs, x, y, max_grad_norm)
        x, y = x.to("tpu"), y.to("tpu")
        tpu_dynamo.reset_stats()
        loss = step(x, y)
        stats = tpu_dynamo.stats()
        torch.testing.assert_close(loss.cpu(), expected, rtol=EPSILON**0.5, atol=100 * EPSILON)
        agree(model, reference)
        if i:
            assert (stats.executions, stats.xla_compiles, stats.bytes_to_host) == (1, 0, 0)
            assert stats.bytes_to_device == 0
    assert model.unused.grad is None
    assert not ours.state.get(model.unused)


def test_parameters_state_and_buffers_give_up_their_memory():
    _, model = pair()
    step = train_step(model, adamw(model.parameters()), F.cross_entropy)
    x, y = (t.to("tpu") for t in batch())
    step(x, y)
    tpu_dynamo.reset_stats()
    step(x, y)
    stats = tpu_dynamo.stats()
    # Seven parameters that are used, with two moments and a count each, and batch norm's three buffers.
    assert stats.donations == 7 * 4 + 3
    assert stats.donations_refused == {}


def test_a_copy_of_a_parameter_keeps_its_values():
    _, model = pair()
    step = train_step(model, adamw(model.parameters()), F.cross_entropy)
    x, y = (t.to("tpu") for t in batch())
    step(x, y)
    kept = model.head.weight.detach().clone()
    before = kept.cpu()
    view = model.head.weight.detach()
    step(x, y)
    assert torch.equal(kept.cpu(), before)
    assert torch.equal(view.cpu(), model.head.weight.detach().cpu())


def test_schedules_change_learning_rates_and_momenta_without_a_new_program():
    reference, model = pair()

    def prepared(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)

    (theirs, their_schedule), (ours, our_schedule) = prepared(reference), prepared(model)
    step = train_step(model, ours, F.cross_entropy)
    for i in range(8):
        if i == 3:
            tpu_dynamo.reset_stats()
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
        their_schedule.step()
        our_schedule.step()
    assert tpu_dynamo.stats().xla_compiles == 0
    agree(model, reference)


def test_betas_that_a_schedule_changes_are_operands_too():
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    for i in range(6):
        if i == 3:
            tpu_dynamo.reset_stats()
        for optimizer in (theirs, ours):
            optimizer.param_groups[0]["betas"] = (0.9 - 0.01 * i, 0.99)
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    assert tpu_dynamo.stats().xla_compiles == 0
    agree(model, reference)


def test_a_warm_up_from_zero_compiles_once():
    reference, model = pair()

    def prepared(module):
        optimizer = adamw(module.parameters())
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(i, 4) / 4)

    (theirs, their_schedule), (ours, our_schedule) = prepared(reference), prepared(model)
    step = train_step(model, ours, F.cross_entropy)
    for i in range(4):
        if i == 1:
            tpu_dynamo.reset_stats()
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
        their_schedule.step()
        our_schedule.step()
    assert not tpu_dynamo.stats().graphs
    agree(model, reference)


@pytest.mark.parametrize("form", [list, lambda betas: tuple(torch.tensor(b) for b in betas)], ids=["list", "tensors"])
def test_pairs_of_numbers_in_other_forms(form):
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    for i in range(3):
        # Tensors are written to in place, or others take their place.
        for optimizer in (theirs, ours):
            optimizer.param_groups[0]["betas"] = form((0.9 - 0.1 * i, 0.99))
            optimizer.param_groups[0]["foreach"] = False
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    agree(model, reference)


class Momentum(torch.optim.Optimizer):
    """A user's own optimizer: state made by its first step, over lists of tensors or one tensor after the other."""

    def __init__(self, parameters, lr, decay=0.9, lists=True):
        super().__init__(parameters, {"lr": lr, "decay": decay, "lists": lists})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            own = [p for p in group["params"] if p.grad is not None]
            for p in own:
                if "average" not in self.state[p]:
                    self.state[p]["average"] = torch.zeros_like(p)
            averages, gradients = [self.state[p]["average"] for p in own], [p.grad for p in own]
            if group["lists"]:
                torch._foreach_mul_(averages, group["decay"])
                torch._foreach_add_(averages, gradients, alpha=1 - group["decay"])
                torch._foreach_addcmul_(averages, averages, averages, group["lr"])
                torch._foreach_add_(own, averages, alpha=-group["lr"])
            else:
                for p, average, gradient in zip(own, averages, gradients, strict=True):
                    average.mul_(group["decay"]).add_(gradient, alpha=1 - group["decay"])
                    average.addcmul_(average, average, value=group["lr"])
                    p.add_(average, alpha=-group["lr"])


@pytest.mark.parametrize("lists", [True, False])
def test_an_optimizer_of_the_users_own(lists):
    reference, model = pair()
    theirs, ours = (Momentum(module.parameters(), 0.05, lists=lists) for module in (reference, model))
    step = train_step(model, ours, F.cross_entropy)
    for i in range(6):
        if i == 4:
            tpu_dynamo.reset_stats()
        for optimizer in (theirs, ours):
            optimizer.param_groups[0]["lr"] = 0.05 + 0.01 * i
            optimizer.param_groups[0]["decay"] = 0.9 - 0.02 * i
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    assert tpu_dynamo.stats().xla_compiles == 0
    agree(model, reference)


def test_groups_have_settings_of_their_own_and_frozen_parameters_stay():
    reference, model = pair()

    def groups(module):
        module.conv.weight.requires_grad_(False)
        return torch.optim.AdamW(
            [
                {"params": [module.mix.weight, module.conv.weight], "weight_decay": 0.5},
                {"params": [module.head.weight, module.mix.bias], "lr": 0.1},
            ],
            lr=1e-2,
            eps=1e-4,
        )

    theirs, ours = groups(reference), groups(model)
    step = train_step(model, ours, F.cross_entropy)
    for i in range(3):
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    agree(model, reference)


def test_eager_and_whole_steps_may_take_turns():
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    for i, whole in enumerate([True, False, True, True, False, True]):
        x, y = batch(seed=i)
        eager(reference, theirs, x, y)
        if whole:
            step(x.to("tpu"), y.to("tpu"))
        else:
            eager(model, ours, x.to("tpu"), y.to("tpu"))
        agree(model, reference)


@pytest.mark.parametrize("towards", ["tpu", "cpu"])
def test_checkpoints_go_from_eager_to_whole_steps_and_back(towards):
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    x, y = batch()
    for _ in range(2):
        eager(reference, theirs, x, y)
        if towards == "cpu":
            step(x.to("tpu"), y.to("tpu"))
    if towards == "tpu":
        model.load_state_dict(reference.state_dict())
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    else:
        reference.load_state_dict(model.state_dict())
        theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for _ in range(2):
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    agree(model, reference)


def test_sizes_that_change_compile_once_each():
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    for i, size in enumerate([5, 7, 9, 7, 5, 9]):
        if i == 3:
            tpu_dynamo.reset_stats()
        x, y = batch(size, seed=i)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    agree(model, reference)
    assert tpu_dynamo.stats().xla_compiles == 0


def test_tied_weights_get_one_update():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 6)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens)).flatten(0, 1)

    reference, model = pair(Tied)
    assert model.head.weight is model.embed.weight
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    tokens = torch.arange(8).view(2, 4)
    for _ in range(3):
        eager(reference, theirs, tokens, tokens.flatten())
        step(tokens.to("tpu"), tokens.flatten().to("tpu"))
    agree(model, reference)


class Checkpointed(nn.Module):
    """Layers with dropout, checkpointed or not."""

    def __init__(self, checkpointed: bool):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.checkpointed = checkpointed

    def block(self, x, layer):
        return F.dropout(torch.sin(torch.sin(layer(x))), 0.3, self.training)

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(self.block, x, layer, use_reentrant=False) if self.checkpointed else self.block(x, layer)
        return x


def test_checkpointing_computes_again_with_the_same_numbers(tmp_path):
    def trained(checkpointed, dump):
        torch.manual_seed(0)
        model = Checkpointed(checkpointed).to("tpu")
        step = train_step(
            model, torch.optim.SGD(model.parameters(), lr=0.1), F.mse_loss, options={"dump_dir": tmp_path / dump}
        )
        torch.manual_seed(1)
        for _ in range(3):
            step(torch.ones(16, 8).to("tpu"), torch.zeros(16, 8).to("tpu"))
        (program,) = (tmp_path / dump).glob("*/stablehlo.mlir")
        return {name: value.cpu() for name, value in model.state_dict().items()}, program.read_text()

    plain, plain_program = trained(False, "plain")
    again, again_program = trained(True, "again")
    torch.testing.assert_close(again, plain)
    assert "optimization_barrier" not in plain_program
    assert again_program.count("optimization_barrier") >= 3
    assert again_program.count("stablehlo.sine") > plain_program.count("stablehlo.sine")


def test_dropout_differs_from_step_to_step_and_follows_the_seed():
    def losses(seed):
        torch.manual_seed(0)
        model = Checkpointed(False).to("tpu")
        step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), F.mse_loss)
        torch.manual_seed(seed)
        return [step(torch.ones(16, 8).to("tpu"), torch.zeros(16, 8).to("tpu")).item() for _ in range(3)]

    first = losses(1)
    assert len(set(first)) == 3
    assert losses(1) == first
    assert losses(2) != first


def test_evaluation_mode_is_another_graph():
    reference, model = pair()
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.cross_entropy)
    x, y = batch()
    for training in (True, False, True):
        reference.train(training)
        model.train(training)
        eager(reference, theirs, x, y)
        step(x.to("tpu"), y.to("tpu"))
    agree(model, reference)


def test_mixed_precision_in_the_model():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))

        def forward(self, x):
            with torch.autocast(x.device.type, torch.bfloat16):
                return self.inner(x).float()

    reference, model = pair(Half)
    theirs, ours = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (reference, model))
    step = train_step(model, ours, F.cross_entropy)
    x, y = torch.randn(6, 8), torch.randint(0, 4, (6,))
    for _ in range(3):
        eager(reference, theirs, x, y)
        loss = step(x.to("tpu"), y.to("tpu"))
    assert loss.dtype == torch.float32
    tolerance = torch.finfo(torch.bfloat16).eps
    actual = {name: value.cpu() for name, value in model.state_dict().items()}
    torch.testing.assert_close(actual, reference.state_dict(), rtol=tolerance, atol=tolerance)


def test_inputs_and_results_of_every_form():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, a, b=0.0):
            return (self.weight * a + b).sum()

    def run(inputs, *targets, loss_fn=None):
        model = Model().to("tpu")
        step = train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), loss_fn)
        return step(inputs, *targets), model.weight.detach().cpu()

    a, b = torch.arange(3.0).to("tpu"), torch.ones(3).to("tpu")
    for inputs in (a, (a,), {"a": a}, (a, b), {"a": a, "b": b}):
        loss, weight = run(inputs)
        assert loss.device.type == "tpu"
        assert not loss.requires_grad
        torch.testing.assert_close(weight, 1 - a.cpu())
    (loss, seen), _ = run(a, b, loss_fn=lambda output, target: (output - target.sum(), output * 2))
    assert (loss.item(), seen.item()) == (0.0, 6.0)


def test_what_cannot_be_a_step_is_refused_with_the_way_out():
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r'model.to\("tpu"\)'):
        train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
    model = model.to("tpu")
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match="evaluates the loss"):
        train_step(model, torch.optim.LBFGS(model.parameters()), F.mse_loss)
    with pytest.raises(tpu_dynamo.OptionError, match="unknown option"):
        train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), options={"tragets": 1})
    settings = {"fallback": "eager", "partitioner": "default", "activation_memory_budget": 0.5, "buckets": "pow2"}
    for option in ({name: value} for name, value in settings.items()):
        with pytest.raises(tpu_dynamo.OptionError, match=f"{next(iter(option))}=.* has no meaning for train_step"):
            train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), options=option)
    groups = [{"params": list(model.parameters()), "scales": torch.ones(2)}]
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match="scales of a group is a tensor of 2 elements"):
        train_step(model, torch.optim.SGD(groups, lr=0.1))
    step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(Exception, match="one floating-point element"):
        step(torch.ones(4, 3).to("tpu"))
    step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda output: output.detach().sum())
    with pytest.raises(Exception, match="requires a gradient"):
        step(torch.ones(4, 3).to("tpu"))


def test_a_hook_on_a_gradient_is_refused_and_not_left_out():
    model = nn.Linear(3, 1).to("tpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.ones(4, 3).to("tpu"), torch.ones(4, 1).to("tpu")
    step = train_step(model, optimizer, F.mse_loss)
    step(x, y)
    handle = model.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match="have hooks"):
        step(x, y)
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match="have hooks"):
        train_step(model, optimizer, F.mse_loss)
    handle.remove()
    step(x, y)


class OwnRule(torch.optim.SGD):
    """Descends by a function of its own; `begin` makes the state of a parameter that has none."""

    _init_group = None  # as with torchao's

    def __init__(self, parameters, rule, begin=torch.zeros_like):
        super().__init__(parameters, lr=0.1)
        self.rule, self.begin = rule, begin

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["mean"] = self.begin(parameter)
                self.rule(parameter, parameter.grad, state["mean"], group["lr"])


def descend(parameter, gradient, mean, lr):
    mean.lerp_(gradient, 0.5)
    parameter.sub_(lr * mean)


def test_what_an_optimizer_compiles_itself_is_part_of_the_step():
    model = nn.Linear(3, 1)
    x, y = torch.ones(4, 3), torch.ones(4, 1)
    found = []
    for whole in (False, True):
        own = copy.deepcopy(model).to("tpu")
        rule = torch.compile(descend, backend="tpu", fullgraph=True, dynamic=False) if whole else descend
        optimizer = OwnRule(own.parameters(), rule)
        if whole:
            step = train_step(own, optimizer, F.mse_loss)
            found.append([step(x.to("tpu"), y.to("tpu")).item() for _ in range(3)])
            continue
        losses = []
        for _ in range(3):
            loss = F.mse_loss(own(x.to("tpu")), y.to("tpu"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found.append(losses)
    assert found[1] == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        pytest.param(
            lambda p: TwoTensor(p.clone(), p.clone()),
            "mean of its state is of the type TwoTensor, which holds several tensors",
            id="held",
        ),
        pytest.param(lambda p: p * torch.ones(3).tolist()[0], "cannot be traced: .*tolist", id="values"),
    ],
)
def test_state_that_no_step_can_have_is_refused(begin, why):
    model = nn.Linear(3, 1).to("tpu")
    x, y = torch.ones(4, 3).to("tpu"), torch.ones(4, 1).to("tpu")
    optimizer = OwnRule(model.parameters(), lambda *_: None, begin)
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match=rf"{why}(.|\n)*compile the model alone"):
        train_step(model, optimizer, F.mse_loss)(x, y)


def test_autograd_notices_that_a_step_changed_parameters():
    _, model = pair()
    step = train_step(model, adamw(model.parameters()), F.cross_entropy)
    x, y = (t.to("tpu") for t in batch())
    pending = F.cross_entropy(model(x), y)
    step(x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pending.backward()


def test_steps_of_many_models_do_not_count_as_recompiles():
    for _ in itertools.repeat(None, 12):
        model = nn.Linear(3, 1).to("tpu")
        step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
        step(torch.ones(2, 3).to("tpu"), torch.ones(2, 1).to("tpu"))


def test_a_trained_model_moves_to_the_cpu_with_its_parameters_identity():
    _, model = pair()
    optimizer = adamw(model.parameters())
    step = train_step(model, optimizer, F.cross_entropy)
    step(*(t.to("tpu") for t in batch()))
    parameter = model.head.weight
    trained = parameter.detach().cpu()
    assert model.to("cpu").head.weight is parameter
    assert torch.equal(parameter, trained)


class Solved(nn.Module):
    """A model whose linear algebra checks its matrices."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        square = self.weight @ self.weight.T + 4 * torch.eye(4, device=x.device)
        return torch.linalg.solve(square, x) + torch.linalg.cholesky(square)


def test_linear_algebra_that_checks_its_matrices():
    reference, model = pair(Solved)
    theirs, ours = adamw(reference.parameters()), adamw(model.parameters())
    step = train_step(model, ours, F.mse_loss)
    for _ in range(2):
        x, y = torch.randn(4, 4), torch.randn(4, 4)
        loss = step(x.to("tpu"), y.to("tpu"))
        torch.testing.assert_close(loss.cpu(), eager(reference, theirs, x, y, loss_fn=F.mse_loss))
    agree(model, reference)
