"""torchao's quantised models, compiled and on the device: eager PyTorch's results, and weights that stay integers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tpu_dynamo

ao = pytest.importorskip("torchao.quantization", reason="torchao is not installed (the extra `ecosystem`)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra `ecosystem`)")

pytestmark = pytest.mark.filterwarnings("ignore")  # torchao's own


def perceptron() -> tuple[nn.Module, Tensor]:
    """Return a model of two linear layers and an input."""
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)).eval(), torch.randn(8, 64)


class Scores(nn.Module):
    """The scores of a decoder of one layer."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.LlamaConfig(
            hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, vocab_size=128,
            num_hidden_layers=1, use_cache=False,
        )  # fmt: skip
        self.decoder = transformers.LlamaForCausalLM(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(ids).logits


def decoder() -> tuple[nn.Module, Tensor]:
    """Return a Llama of one layer and tokens."""
    return Scores().eval(), torch.arange(24).reshape(2, 12) * 5 % 128


# Each with the types of its weights in the program, and of the operands of its products.
CONFIGS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "int8-weights": (lambda: ao.Int8WeightOnlyConfig(), "i8", "f32"),
    "int8-weights-in-groups": (lambda: ao.Int8WeightOnlyConfig(granularity=ao.PerGroup(32)), "i8", "f32"),
    "int8-dynamic": (lambda: ao.Int8DynamicActivationInt8WeightConfig(), "i8", "i8"),
    "int8-dynamic-by-tensor": (
        lambda: ao.Int8DynamicActivationInt8WeightConfig(granularity=ao.PerTensor()), "i8", "i8"
    ),
    "int4-weights": (
        lambda: ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=ao.PerGroup(32)), "i8", "f32"  # pyright: ignore[reportAttributeAccessIssue]
    ),
    "int4-dynamic": (
        lambda: ao.Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=ao.PerGroup(32)),  # pyright: ignore[reportAttributeAccessIssue]
        "i8", "f32",
    ),
    "float8-weights": (lambda: ao.Float8WeightOnlyConfig(), "f8E4M3FN", "f32"),
}  # fmt: skip


def quantised(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of a model whose linear layers are quantised."""
    model = copy.deepcopy(model)
    ao.quantize_(model, CONFIGS[name][0]())
    return model


def check(model: nn.Module, given: Tensor, full: Tensor) -> None:
    """Compare a quantised model, compiled and on the device, with itself in eager PyTorch on the CPU.

    full: what the model gave before. Results differ by less than quantisation has changed them: the largest number of a
    row is on the edge of two steps of its grid (torchao divides by 127.5 steps), and a last place decides which it takes.
    """
    with torch.no_grad():
        expected = model(given)
        step = (expected - full).abs().max().item()
        there, moved = copy.deepcopy(model).to("tpu"), given.to("tpu")
        for actual in (
            torch.compile(model, backend="tpu", fullgraph=True)(given),
            torch.compile(there, backend="tpu", fullgraph=True)(moved).cpu(),
            there(moved).cpu(),
        ):
            torch.testing.assert_close(actual, expected, rtol=0, atol=step)
            assert (actual - expected).abs().mean() < 0.5 * (expected - full).abs().mean()
    assert not tpu_dynamo.stats().fallbacks


CASES = [pytest.param(perceptron, name, id=f"perceptron-{name}") for name in CONFIGS] + [
    pytest.param(decoder, name, id=f"decoder-{name}", marks=[] if name == "int8-dynamic" else pytest.mark.slow)
    for name in CONFIGS
]


@pytest.mark.parametrize(("make", "name"), CASES)
def test_results_are_those_of_the_quantised_model(make, name):
    model, given = make()
    with torch.no_grad():
        full = model(given)
    check(quantised(model, name), given, full)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_stay_narrow_and_products_are_of_what_the_config_names(name):
    model, given = perceptron()
    _, stored, operands = CONFIGS[name]
    (graph,) = tpu_dynamo.compile_for(quantised(model, name), (given,), target="cpu")
    lines = graph.stablehlo.splitlines()
    (main,) = (line for line in lines if "@main(" in line)
    assert [main.count(f"tensor<{shape}x{stored}>") for shape in ("96x64", "64x96")] == [1, 1]
    products = [line for line in lines if "stablehlo.dot_general" in line]
    assert len(products) == 2
    assert all(f"x{operands}>, tensor" in line for line in products)


QAT = ["int4-weights", "int4-dynamic"]


def trained(model: nn.Module, given: Tensor, device: str) -> tuple[list[float], nn.Module]:
    """Return the losses of three steps and the model, which is compiled on the device alone."""
    model = copy.deepcopy(model).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forward = torch.compile(model, backend="tpu", fullgraph=True) if device == "tpu" else model
    losses = []
    for _ in range(3):
        loss = nn.functional.mse_loss(forward(given.to(device)), given.to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("name", QAT)
def test_training_aware_of_quantisation_prepares_trains_and_converts(name):
    from torchao.quantization.qat import QATConfig

    model, given = perceptron()
    ao.quantize_(model, QATConfig(CONFIGS[name][0](), step="prepare"))  # pyright: ignore[reportArgumentType]
    expected, _ = trained(model, given, "cpu")
    actual, model = trained(model, given, "tpu")
    assert actual == pytest.approx(expected, rel=5e-3)  # a number on the edge of two steps, as above
    assert actual[-1] < actual[0]
    model = model.cpu().eval()
    with torch.no_grad():
        full = model(given)
    ao.quantize_(model, QATConfig(CONFIGS[name][0](), step="convert"))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        converted = model(given)
        # The converted model rounds as the prepared one did: they differ by far less than quantisation changes them.
        torch.testing.assert_close(converted, full, rtol=0, atol=0.02)
        found = torch.compile(copy.deepcopy(model).to("tpu"), backend="tpu", fullgraph=True)(given.to("tpu"))
    torch.testing.assert_close(found.cpu(), converted, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "emulate", [pytest.param(False, id="scaled-products"), pytest.param(True, id="emulated", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise", "rowwise_with_gw_hp"])
def test_training_in_float8_gives_the_cpus_losses(recipe, emulate):
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    dtype = torch.float32 if recipe == "tensorwise" else torch.bfloat16
    model, given = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)), torch.randn(32, 64)
    config = Float8LinearConfig.from_recipe_name(recipe)
    object.__setattr__(config, "emulate", emulate)
    model = convert_to_float8_training(model.to(dtype), config=config)
    expected, _ = trained(model, given.to(dtype), "cpu")
    actual, _ = trained(model, given.to(dtype), "tpu")
    assert actual == pytest.approx(expected, rel=max(torch.finfo(dtype).eps, 1e-5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW8bit", "AdamW4bit", "AdamWFp8"])
def test_narrow_optimizers_step_on_the_device_and_are_refused_in_a_whole_step(name):
    kind = getattr(pytest.importorskip("torchao.optim"), name)

    def losses(model: nn.Module, device: str) -> list[float]:
        optimizer, inputs, found = kind(model.parameters(), lr=1e-2), given.to(device), []
        for _ in range(2):
            loss = (model(inputs) - inputs).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    model, given = nn.Linear(64, 64, bias=False), torch.randn(8, 64)  # fewer numbers are not quantised
    with torch.compiler.set_stance("force_eager"):  # torchao compiles its update, on the CPU with a C++ compiler
        expected = losses(copy.deepcopy(model), "cpu")
    on_device = copy.deepcopy(model).to("tpu")
    assert losses(on_device, "tpu") == pytest.approx(expected, rel=1e-2)  # a grid's step in a few elements
    step = tpu_dynamo.train_step(on_device, kind(on_device.parameters(), lr=1e-2), nn.functional.mse_loss)
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match=rf"{name}(.|\n)*exp_avg(.|\n)*several tensors"):
        step(given.to("tpu"), given.to("tpu"))
