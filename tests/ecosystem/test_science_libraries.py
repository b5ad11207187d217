"""Libraries for images, processes, equations and sentences on the device, and what loops around models are made of."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tpu_dynamo

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own warnings

DEVICES = ("cpu", "tpu")


def library(name: str) -> Any:
    """Import a library, or skip the test."""
    return pytest.importorskip(name, reason=f"{name} is not installed (the extra `ecosystem`)")


@pytest.fixture(scope="module")
def monai() -> Any:
    """Import MONAI before a test begins: what it imports sets variables of the environment."""
    library("monai.networks.nets.unet")
    return library("monai.losses.dice")


def close(ours: Tensor, theirs: Tensor) -> None:
    """A tensor of the device has the values of one on the CPU."""
    assert ours.device.type == "tpu"
    torch.testing.assert_close(ours.detach().cpu(), theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.shows("kornia", "filters, colours, rotation, augmentation", 'kornia.filters.sobel(images.to("tpu"))')
def test_kornia_filters_as_on_the_cpu():
    kornia = library("kornia")
    images = torch.linspace(0, 1, 3 * 64).sin().view(1, 3, 8, 8)
    for function in (
        lambda x: kornia.filters.gaussian_blur2d(x, (3, 3), (1.0, 1.0)),
        kornia.color.rgb_to_grayscale,
        kornia.filters.sobel,
        lambda x: kornia.geometry.transform.rotate(x, torch.tensor([30.0], device=x.device)),
        kornia.augmentation.RandomHorizontalFlip(p=1.0),
    ):
        close(function(images.to("tpu")), function(images))


@pytest.mark.shows("pytorch-ignite", "a supervised trainer", 'create_supervised_trainer(..., device="tpu")')
def test_ignite_trains_as_on_the_cpu():
    library("ignite")
    from ignite.engine import create_supervised_trainer

    losses = []
    for device in DEVICES:
        torch.manual_seed(0)
        model = nn.Linear(4, 1).to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss, device=device)
        data = [(torch.ones(2, 4) * i, torch.ones(2, 1)) for i in range(3)]
        losses.append(trainer.run(data, max_epochs=2).output)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.shows("gpytorch", "an exact Gaussian process: its marginal likelihood trained", 'model.to("tpu")')
def test_gpytorch_trains_as_on_the_cpu():
    gpytorch = library("gpytorch")

    class Process(gpytorch.models.ExactGP):
        def __init__(self, *given: Any):
            super().__init__(*given)
            self.mean = gpytorch.means.ConstantMean()
            self.covariance = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean(x), self.covariance(x))

    losses = []
    for device in DEVICES:
        x = torch.linspace(0, 1, 8).to(device)
        y = torch.sin(6 * x)
        likelihood = gpytorch.likelihoods.GaussianLikelihood().to(device)
        model = Process(x, y, likelihood).to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), 0.1)
        marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        for _ in range(2):
            optimizer.zero_grad()
            loss = -marginal(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(float(loss))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.shows(
    "torchdiffeq", "`odeint` with fixed and adaptive steps", 'odeint(function, start.to("tpu"), times.to("tpu"))'
)
def test_torchdiffeq_integrates_as_on_the_cpu():
    odeint = library("torchdiffeq").odeint
    for method in ("rk4", "dopri5"):
        found = []
        for device in DEVICES:
            turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).to(device)
            start, times = torch.tensor([1.0, 0.0]).to(device), torch.linspace(0, 1, 4).to(device)
            found.append(odeint(lambda t, y: y @ turn, start, times, method=method))
        close(found[1], found[0])


@pytest.mark.shows("monai", "a UNet with Dice loss and its gradients", 'UNet(...).to("tpu")')
@pytest.mark.usefixtures("monai")
def test_monai_segments_as_on_the_cpu():
    from monai.losses.dice import DiceLoss
    from monai.networks.nets.unet import UNet

    found = []
    for device in DEVICES:
        torch.manual_seed(0)
        model = UNet(2, 1, 2, (4, 8), (2,)).to(device)
        images = torch.linspace(0, 9, 64).sin().view(1, 1, 8, 8).to(device)
        loss = DiceLoss(to_onehot_y=True, softmax=True)(model(images), (images > 0).float())
        loss.backward()
        found.append((loss, *(p.grad for p in model.parameters() if p.grad is not None)))
    for theirs, ours in zip(*found, strict=True):
        close(ours, theirs)


@pytest.mark.shows("sentence-transformers", "encoding and similarity", 'SentenceTransformer(..., device="tpu")')
def test_sentence_transformers_encodes_as_on_the_cpu():
    transformers = library("sentence_transformers")
    from sentence_transformers import models

    encoded = []
    for device in DEVICES:
        torch.manual_seed(0)
        parts = [models.BoW(vocab=["a", "cat", "sat", "dog"]), models.Dense(4, 3), models.Normalize()]
        model = transformers.SentenceTransformer(modules=parts, device=device)
        vectors = model.encode(["a cat sat", "a dog"], convert_to_tensor=True)
        encoded.append((vectors, model.similarity(vectors, vectors)))
    for theirs, ours in zip(*encoded, strict=True):
        close(ours, theirs)


def test_a_loop_of_images_is_the_cpus():
    """A loop with channels last, mixed images, averaged weights, a scaler and accumulation, as timm has it, is equal."""
    losses, averages = [], []
    for device in DEVICES:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)
        )
        model = model.to(device, memory_format=torch.channels_last)
        average = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
        )
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        scaler = torch.amp.GradScaler(device)
        for step in range(2):
            for part in range(2):
                images = torch.linspace(step, 9 + part, 4 * 3 * 64).sin().view(4, 3, 8, 8)
                images = images.to(device).contiguous(memory_format=torch.channels_last)
                labels = nn.functional.one_hot(torch.arange(4) % 5, 5).float().to(device)
                images, labels = 0.7 * images + 0.3 * images.flip(0), 0.7 * labels + 0.3 * labels.flip(0)
                loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
                scaler.scale(loss / 2).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            average.update_parameters(model)
            losses.append(float(loss))
        averages.append([p.detach() for p in average.module.parameters()])
    assert losses[2:] == pytest.approx(losses[:2], rel=1e-4)
    for theirs, ours in zip(*averages, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)
    assert not tpu_dynamo.stats().fallbacks
