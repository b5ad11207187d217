"""skorch, tensordict and torchmetrics on the device: what their users write, with the CPU's results."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tpu_dynamo

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own warnings


def library(name: str) -> Any:
    """Make a fixture that imports a library before a test begins: scikit-learn sets variables of the environment."""

    @pytest.fixture(scope="module", name=name)
    def imported() -> Any:
        return pytest.importorskip(name, reason=f"{name} is not installed (the extra `ecosystem`)")

    return imported


skorch_library, tensordict_library, torchmetrics_library = map(library, ("skorch", "tensordict", "torchmetrics"))


@pytest.mark.shows(
    "skorch", "training and prediction, compiled", 'NeuralNetRegressor(net, device="tpu", compile=True, compile__backend="tpu")'
)  # fmt: skip
def test_skorch_trains_as_on_the_cpu(skorch):
    x = torch.sin(torch.arange(64).float()).reshape(16, 4).numpy()
    y = x.sum(axis=1, keepdims=True)
    losses, predicted = [], []
    for given in ({"device": "cpu"}, {"device": "tpu", "compile": True, "compile__backend": "tpu"}):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        regressor = skorch.NeuralNetRegressor(
            net,
            max_epochs=2,
            lr=0.05,
            batch_size=8,
            train_split=None,
            verbose=0,
            iterator_train__shuffle=False,
            **given,
        )
        regressor.fit(x, y)
        losses.append(regressor.history[:, "train_loss"])
        predicted.append(torch.from_numpy(regressor.predict(x)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(predicted[1], predicted[0])
    assert not tpu_dynamo.stats().fallbacks


@pytest.mark.shows("tensordict", "moving there and back, indexing, stacking", 'TensorDict(...).to("tpu")')
def test_tensordict_moves_there_and_back(tensordict):
    here = tensordict.TensorDict({"a": torch.arange(6.0).reshape(3, 2), "in": {"b": torch.ones(3)}}, batch_size=[3])
    there = here.to("tpu")
    assert there["in", "b"].device.type == "tpu"
    stacked = torch.stack([there[:2], there[1:]])
    expected = torch.stack([here[:2], here[1:]])
    assert (stacked.to("cpu") == expected).all()


@pytest.mark.shows(
    "torchmetrics", "accuracy, F1, mean squared error, mean; state on the device", 'MulticlassAccuracy(5).to("tpu")'
)
def test_torchmetrics_gives_the_cpus_numbers(torchmetrics):
    scores = torch.sin(torch.arange(40).float()).reshape(8, 5)
    classes = torch.arange(8) % 5
    made = {
        "accuracy": (torchmetrics.classification.MulticlassAccuracy(5), (scores, classes)),
        "f1": (torchmetrics.classification.MulticlassF1Score(5), (scores, classes)),
        "squares": (torchmetrics.MeanSquaredError(), (scores, scores + 0.5)),
        "mean": (torchmetrics.MeanMetric(), (scores,)),
    }
    for name, (metric, given) in made.items():
        values = []
        for device in ("cpu", "tpu"):
            metric = metric.to(device)
            metric.reset()
            for _ in range(2):
                metric.update(*(each.to(device) for each in given))
            values.append(metric.compute().cpu())
        torch.testing.assert_close(values[1], values[0], msg=name)
