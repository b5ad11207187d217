"""Models on the device: moved as a whole, ties kept, mixtures of experts, autocast, loaders, frozen parts."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils.data import DataLoader, TensorDataset

import tpu_dynamo
from tpu_dynamo.device import DeviceNameTaken, registration

pytestmark = pytest.mark.sampled(2)

compiled_autograd = torch._dynamo.compiled_autograd


def test_tied_weights_stay_tied_and_optimizers_keep_their_parameters():
    embedding, head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7, bias=False)
    head.weight = embedding.weight
    model = torch.nn.Sequential(embedding, head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.to("tpu")
    assert model[0].weight is model[1].weight
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    before = model[0].weight.detach().cpu()
    model(torch.tensor([1, 2]).to("tpu")).sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight.detach().cpu(), before)


def linears() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("start", ["cpu", "tpu"])
def test_a_model_moves_while_an_output_of_it_lives(start, compiled):
    model, x = linears().to(start), torch.ones(2, 3)
    run = torch.compile(model, backend="tpu") if compiled else model
    kept = run(x.to(start))
    for device, dtype in (("tpu", torch.float32), ("tpu", torch.bfloat16), ("cpu", torch.float64)):
        model.to(device, dtype)
        model(x.to(device, dtype)).sum().backward()
        assert (model[0].weight.grad.device.type, model[0].weight.grad.dtype) == (device, dtype)
    assert kept.device.type == start


def test_a_parameter_that_moves_is_the_same_object():
    model = linears()
    model.register_buffer("seen", torch.zeros(2), persistent=False)
    weight, frozen = model[0].weight, model[1].weight.requires_grad_(False)
    alive, optimizer, calls = weakref.ref(weight), torch.optim.SGD(model.parameters(), lr=0.1), []
    weight.register_hook(lambda gradient: calls.append("gradient"))
    weight.register_post_accumulate_grad_hook(lambda parameter: calls.append("accumulated"))
    model(torch.ones(1, 3)).sum().backward()
    gradient = weight.grad
    for device in ("tpu", "cpu", "tpu"):
        calls.clear()
        assert model.to(device)[0].weight is weight is alive() is optimizer.param_groups[0]["params"][0]
        assert weight.grad is gradient
        assert {t.device.type for t in (weight, frozen, gradient, model.seen)} == {device}
        assert (weight.requires_grad, weight.is_leaf, frozen.requires_grad) == (True, True, False)
        model(torch.ones(1, 3, device=device)).sum().backward()
        assert calls == ["gradient", "accumulated"]
    before = weight.detach().cpu()
    optimizer.step()
    torch.testing.assert_close(weight.detach().cpu(), before - 0.1 * gradient.cpu())


def test_data_of_a_parameter_may_be_on_the_other_device():
    parameter = torch.nn.Parameter(torch.ones(2))
    view = parameter.detach()
    parameter.data = torch.full((2,), 3.0).to("tpu")
    assert (parameter.device.type, view.device.type) == ("tpu", "cpu")
    torch.testing.assert_close((parameter * 2).cpu(), torch.full((2,), 6.0))
    parameter.data = view
    assert parameter.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()


WRAPPED = {
    "weight norm": lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3)),
    "spectral norm": lambda: torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 3)).eval(),
    "lstm": lambda: torch.nn.LSTM(3, 3, num_layers=2),
    "lstm without biases": lambda: torch.nn.LSTM(3, 3, bias=False),
    "gru": lambda: torch.nn.GRU(3, 3),
    "gru without biases": lambda: torch.nn.GRU(3, 3, bias=False),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_modules_with_parameters_of_their_own_kind_move(name):
    model, x, results = WRAPPED[name](), torch.randn(2, 3), []
    for device in ("cpu", "tpu", "cpu"):
        result = model.to(device)(x.to(device))
        result = result[0] if isinstance(result, tuple) else result
        results.append(result.detach().cpu())
    for moved in results[1:]:
        torch.testing.assert_close(moved, results[0])
    copied = copy.deepcopy(model.to("tpu"))
    assert {parameter.device.type for parameter in copied.parameters()} == {"tpu"}


def test_states_are_loaded_in_place_or_assigned():
    model = linears().to("tpu")
    state = {name: torch.full_like(tensor, 2.0, device="cpu") for name, tensor in model.state_dict().items()}
    weight, _ = model[0].weight, model(torch.ones(1, 3, device="tpu"))
    model.load_state_dict(state)
    assert model[0].weight is weight
    assert weight.device.type == "tpu"
    torch.testing.assert_close(weight.detach().cpu(), state["0.weight"])
    model.load_state_dict(state, assign=True)
    assert model[0].weight.device.type == "cpu"
    with torch.device("meta"):
        unmade = linears()
    assert unmade.to_empty(device="tpu")[0].weight.device.type == "tpu"


def test_the_accelerator_answers():
    kept = torch.ones(8).to("tpu")
    torch.accelerator.synchronize()
    assert torch.accelerator.memory_allocated() >= kept.nbytes
    torch.accelerator.empty_cache()


@pytest.mark.parametrize("compiled", [False, True])
def test_grouped_products_and_their_gradients(compiled):
    def loss(rows, matrices, ends):
        return torch._grouped_mm(rows, matrices, offs=ends).square().sum()

    torch.manual_seed(0)
    rows, matrices, ends = torch.randn(6, 8), torch.randn(3, 8, 16), torch.tensor([2, 2, 6], dtype=torch.int32)
    expected = []
    groups = [rows[:2], rows[2:2], rows[2:6]]
    host = [rows.clone().requires_grad_(), matrices.clone().requires_grad_()]
    sum((host[0][a:b] @ host[1][g]).square().sum() for g, (a, b) in enumerate([(0, 2), (2, 2), (2, 6)])).backward()
    expected = [tensor.grad for tensor in host]
    assert len(groups) == 3
    there = [tensor.to("tpu").requires_grad_() for tensor in (rows, matrices)]
    run = torch.compile(loss, backend="tpu", fullgraph=True) if compiled else loss
    run(*there, ends.to("tpu")).backward()
    for tensor, gradient in zip(there, expected, strict=True):
        torch.testing.assert_close(tensor.grad.cpu(), gradient, rtol=1e-4, atol=1e-4)


def test_autocast_computes_products_in_half_precision():
    model, x = torch.nn.Linear(4, 3).to("tpu"), torch.randn(2, 4).to("tpu")
    with torch.autocast("tpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    compiled = torch.compile(model, backend="tpu")
    with torch.autocast("tpu", dtype=torch.bfloat16):
        y = compiled(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float().cpu(), model(x).cpu(), rtol=0.05, atol=0.05)


def test_a_scaler_skips_steps_that_overflowed():
    model = torch.nn.Linear(3, 1, bias=False).to("tpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("tpu", init_scale=4.0)
    for x, moves in ((torch.ones(2, 3), True), (torch.full((2, 3), float("inf")), False)):
        before = model.weight.detach().cpu()
        optimizer.zero_grad()
        scaler.scale(model(x.to("tpu")).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(model.weight.detach().cpu(), before) != moves
    assert scaler.get_scale() == 2.0


def test_a_loader_feeds_the_device():
    loader = DataLoader(TensorDataset(torch.arange(8.0)), batch_size=4, pin_memory=True)
    assert sum(float(batch.to("tpu", non_blocking=True).sum()) for (batch,) in loader) == 28


def test_dropping_many_models_leaves_nothing_behind():
    from tpu_dynamo.device.operator_programs import device_client

    def make() -> None:
        torch.nn.Linear(50, 50).to("tpu")(torch.ones(1, 50, device="tpu")).sum().backward()

    make()
    buffers = len(device_client()._client.live_buffers())
    for _ in range(100):
        make()
    assert len(device_client()._client.live_buffers()) <= buffers + 2


def test_another_owner_of_the_slot_is_named(monkeypatch):
    monkeypatch.setattr(registration, "_libraries", [])
    monkeypatch.setattr(registration, "owner_of_private_use", lambda: "npu")
    with pytest.raises(DeviceNameTaken, match="took it for 'npu'"):
        registration.register()
    registration.register_if_free()


def test_another_target_than_the_tensors_own_is_refused(monkeypatch):
    from tpu_dynamo.graph import clients

    class Chip:
        platform = "tpu"

    monkeypatch.setattr(clients, "device_client", Chip)
    with pytest.raises(Exception, match=r"target='cpu', but the tensors of torch.device\(\"tpu\"\) live on tpu"):
        torch.compile(lambda x: x + 1, backend="tpu", options={"target": "cpu"})(torch.ones(2).to("tpu"))


def test_first_uses_are_visible_in_the_counts():
    x = torch.ones(3, 7, 2).to("tpu")
    tpu_dynamo.reset_stats()
    torch.erfinv(x * 0.5)
    assert tpu_dynamo.stats().lowerings >= 1
    tpu_dynamo.reset_stats()
    torch.erfinv(x * 0.5)
    stats = tpu_dynamo.stats()
    assert (stats.lowerings, stats.executions) == (0, 2)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_networks_and_their_gradients(kind):
    def run(device):
        torch.manual_seed(0)
        network = getattr(torch.nn, kind)(3, 5, num_layers=2, batch_first=True).to(device)
        x = torch.linspace(-1, 1, 24).view(2, 4, 3).to(device).requires_grad_()
        output, _ = network(x)
        output.square().sum().backward()
        return [tensor.cpu() for tensor in (output.detach(), x.grad, *(p.grad for p in network.parameters()))]

    torch.testing.assert_close(run("tpu"), run("cpu"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings(mode, compiled):
    torch.manual_seed(0)
    bag = torch.nn.EmbeddingBag(9, 4, mode=mode)
    ids, starts = torch.tensor([1, 2, 8, 0, 1, 1]), torch.tensor([0, 2, 5])
    expected = bag(ids, starts).detach()
    bag.to("tpu")
    run = torch.compile(bag, backend="tpu") if compiled else bag
    torch.testing.assert_close(run(ids.to("tpu"), starts.to("tpu")).cpu().detach(), expected)


def attend(q, k, v, m, **how):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=m, **how)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("heads", "mask", "how"),
    [
        (4, None, {}),
        (4, None, {"is_causal": True}),
        (2, None, {"enable_gqa": True, "scale": 0.3}),
        (4, "bool", {}),
        (4, "float", {}),
    ],
    ids=["plain", "causal", "grouped", "masked", "biased"],
)
def test_attention_is_one_operator_with_eagers_gradients(heads, mask, how, compiled):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, heads, 6, 8), torch.randn(2, heads, 6, 8)
    masks = {None: None, "bool": torch.rand(5, 6) > 0.3, "float": torch.randn(2, 1, 5, 6)}

    def run(device, function):
        inputs = [t.to(device).requires_grad_() for t in (q.clone(), k.clone(), v.clone())]
        m = masks[mask]
        out = function(*inputs, None if m is None else m.to(device))
        out.square().sum().backward()
        return [t.cpu() for t in (out.detach(), *(t.grad for t in inputs))]

    def function(q, k, v, m):
        return attend(q, k, v, m, **how)

    expected = run("cpu", function)
    actual = run("tpu", torch.compile(function, backend="tpu", fullgraph=True) if compiled else function)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    names = []

    def look(graph, inputs):
        names.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    run("tpu", torch.compile(function, backend=aot_autograd(fw_compiler=look, bw_compiler=look)))
    assert names.count("tpu_dynamo.attention.default") == names.count("tpu_dynamo.attention_backward.default") == 1
    assert not any("bmm" in name or "softmax" in name for name in names)


def on_the_device(scale: torch.Tensor) -> torch.Tensor:
    return scale + torch.ones(3, device="tpu")


@pytest.mark.parametrize("inputs", [pytest.param([], id="no inputs"), pytest.param([torch.tensor(2.0)], id="a number")])
def test_after_a_reset_programs_run_where_the_tensors_are(inputs):
    kept = torch.ones(3, device="tpu")
    tpu_dynamo.reset()
    made = torch.compile(lambda *given: on_the_device(*(given or [torch.tensor(2.0, device="tpu")])), backend="tpu")
    assert torch.equal((made(*inputs) + kept).cpu(), torch.full((3,), 4.0))


def test_after_a_reset_compiled_autograd_runs_where_the_tensors_are():
    net = torch.nn.Linear(3, 2).to("tpu")
    tpu_dynamo.reset()
    try:
        with compiled_autograd._enable(torch.compile(backend="tpu")):
            torch.compile(net, backend="tpu")(torch.ones(4, 3, device="tpu")).sum().backward()
    finally:
        compiled_autograd.reset()
    assert net.weight.grad is not None
    assert torch.equal(net.weight.grad.cpu(), torch.full((2, 3), 4.0))


def test_norms_take_any_memory_order_and_are_one_program_each():
    """PyTorch's own kernels for devices from outside refuse channels-last inputs, and make four programs of a norm."""

    def norms(device: str) -> list[torch.Tensor]:
        images = torch.linspace(-9, 9, 256).sin().view(2, 8, 4, 4).to(device)
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        scale = torch.linspace(1, 2, 8, device=device)
        normed = [
            torch.nn.functional.group_norm(images, 2, scale, -scale),
            torch.nn.functional.layer_norm(images.transpose(1, 3), (8,), scale, -scale).transpose(1, 3),
        ]
        return [*normed, *torch.autograd.grad(sum((each * images.cos()).sum() for each in normed), images)]

    for ours, theirs in zip(norms("tpu"), norms("cpu"), strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours.detach().cpu(), theirs.detach(), rtol=1e-4, atol=1e-4)
    x = torch.ones(2, 8, 4, 4, device="tpu")
    before = tpu_dynamo.stats().executions
    torch.nn.functional.group_norm(x, 2)
    torch.nn.functional.layer_norm(x, (4, 4))
    assert tpu_dynamo.stats().executions == before + 2
