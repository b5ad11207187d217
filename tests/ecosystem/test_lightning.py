"""Lightning's Trainer and Fabric: one script on both devices, with accelerator="tpu_dynamo" for "cuda"."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import tpu_dynamo

lightning = pytest.importorskip("lightning", reason="lightning is not installed (the extra `ecosystem`)")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

BATCHES, SIZE = 4, 8
PRECISIONS = [("32-true", 1e-5), ("bf16-mixed", 2e-2), ("16-mixed", 2e-3)]


class Model(lightning.LightningModule):
    """A small network that keeps its losses and logs them, as modules do, and says what dtype it computed in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(SIZE, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def _loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(self(x).float(), y)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self._loss(batch)

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        self.kept.append(outputs["loss"].detach())
        self.log("loss", outputs["loss"])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def loader() -> torch.utils.data.DataLoader:
    x = torch.sin(torch.arange(BATCHES * 4 * SIZE).float()).reshape(-1, SIZE)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)


def trainer_of(accelerator: str, folder: Path, **given: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"max_epochs": 1, "accelerator": accelerator, "devices": 1, "default_root_dir": folder, **quiet, **given}
    return lightning.Trainer(**given)


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="tpu")


def losses_of(model: Model) -> torch.Tensor:
    return torch.stack([loss.cpu() for loss in model.kept])


@pytest.mark.shows(
    "lightning", "`Trainer` and `Fabric` on the device; the strategy follows", 'Trainer(accelerator="tpu_dynamo")'
)
def test_the_strategy_follows_the_accelerator(tmp_path):
    trainer = trainer_of("tpu_dynamo", tmp_path)
    assert trainer.strategy.root_device == torch.device("tpu", 0)
    assert trainer_of("tpu_dynamo", tmp_path, devices="auto").num_devices == 1
    assert trainer_of("tpu_dynamo", tmp_path, devices=[0], strategy="tpu_dynamo").strategy.root_device.type == "tpu"
    assert lightning.Fabric(accelerator="tpu_dynamo", devices=1).device == torch.device("tpu", 0)
    assert trainer_of("cpu", tmp_path).strategy.root_device.type == "cpu"


def test_several_devices_and_another_strategys_device_are_refused(tmp_path):
    for make in (lightning.Trainer, lightning.Fabric):
        with pytest.raises(ValueError, match="drives one device in a process, not devices=2"):
            make(accelerator="tpu_dynamo", devices=2)
    with pytest.raises(ValueError, match="runs on cpu: write strategy='tpu_dynamo'"):
        lightning.Fabric(
            accelerator="tpu_dynamo", strategy=lightning.fabric.strategies.SingleDeviceStrategy("cpu")
        ).launch()


@pytest.mark.shows(
    "lightning",
    "mixed precision in bfloat16, and in float16 with a scaler; also as `pytorch_lightning` and `lightning_fabric`",
    'Trainer(accelerator="tpu_dynamo", precision="bf16-mixed")',
)
@pytest.mark.parametrize(("pytorch", "fabric"), [("lightning.pytorch", "lightning.fabric"), ("pytorch_lightning", "lightning_fabric")])  # fmt: skip
@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)])
def test_mixed_precision_is_the_devices(pytorch, fabric, precision, dtype, recwarn):
    plugin = importlib.import_module(pytorch).Trainer(accelerator="tpu_dynamo", precision=precision, logger=False)
    assert (plugin.precision_plugin.scaler is not None) == (precision == "16-mixed")
    assert not [each for each in recwarn if "CUDA" in str(each.message)]
    of_fabric = importlib.import_module(fabric).Fabric(accelerator="tpu_dynamo", precision=precision)
    x = torch.ones(2, 2, device="tpu")
    for context in (plugin.precision_plugin.forward_context(), of_fabric.autocast()):
        with context:
            assert (x @ x).dtype == dtype
    if precision == "16-mixed":
        for scaler in (plugin.precision_plugin.scaler, of_fabric._precision.scaler):
            assert scaler.is_enabled() and scaler.scale(x).device.type == "tpu"


@pytest.mark.shows(
    "lightning",
    "fit with validation, test and predict of a compiled module, to teardown; losses as the CPU's",
    'trainer.fit(torch.compile(module, backend="tpu"), loader)',
)
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
def test_fit_test_and_predict_are_the_cpus(precision, tolerance, tmp_path):
    reference, model = Model(), Model()
    on_cpu = trainer_of("cpu", tmp_path / "cpu")
    on_cpu.fit(reference, loader(), loader())
    tpu_dynamo.reset_stats()
    trainer = trainer_of("tpu_dynamo", tmp_path / "tpu", precision=precision)
    trainer.fit(compiled(model), loader(), loader())
    stats = tpu_dynamo.stats()
    assert not stats.fallbacks and stats.graphs["backward"]
    torch.testing.assert_close(losses_of(model), losses_of(reference), rtol=tolerance, atol=tolerance)
    assert next(model.parameters()).device.type == "cpu"  # teardown has moved it
    tested, expected = trainer.test(model, loader(), verbose=False), on_cpu.test(reference, loader(), verbose=False)
    assert tested[0]["test_loss"] == pytest.approx(expected[0]["test_loss"], rel=10 * tolerance)
    for got, want in zip(trainer.predict(model, loader()), on_cpu.predict(reference, loader()), strict=True):
        torch.testing.assert_close(got.float().cpu(), want, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.shows(
    "lightning",
    "a step moves the batch in and the loss out",
    'trainer.fit(torch.compile(module, backend="tpu"), loader)',
)
@pytest.mark.slow
def test_a_step_moves_the_batch_in_and_the_loss_out(tmp_path):
    moved = []

    class Count(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            outputs["loss"].item()
            moved.append(tpu_dynamo.stats())

    trainer = trainer_of("tpu_dynamo", tmp_path, max_epochs=2, callbacks=[Count()], enable_checkpointing=False)
    trainer.fit(compiled(Model()), loader())
    first, last = moved[-2:]
    batch = 4 * 4 * (SIZE + 1)
    # The numbers of AdamW and of the log come with it, whatever the model's size.
    assert batch <= last.bytes_to_device - first.bytes_to_device <= batch + 128
    assert last.bytes_to_host - first.bytes_to_host == 4
    assert not last.fallbacks


@pytest.mark.shows(
    "lightning",
    "checkpoints, which hold CPU tensors, and resuming",
    'trainer.fit(module, loader, ckpt_path="half.ckpt")',
)
@pytest.mark.slow
def test_a_run_is_resumed_from_its_checkpoint(tmp_path):
    whole, resumed = Model(), Model()
    trainer_of("tpu_dynamo", tmp_path, max_epochs=2).fit(compiled(whole), loader())
    first = trainer_of("tpu_dynamo", tmp_path)
    first.fit(compiled(Model()), loader())
    first.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=False)["state_dict"]
    assert {each.device.type for each in saved.values()} == {"cpu"}
    trainer_of("tpu_dynamo", tmp_path, max_epochs=2).fit(compiled(resumed), loader(), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(losses_of(resumed), losses_of(whole)[BATCHES:])


@pytest.mark.shows(
    "lightning",
    "Fabric's loop: setup, backward, clipping, save and load",
    'Fabric(accelerator="tpu_dynamo", precision="16-mixed")',
)
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
def test_fabric_trains_saves_and_loads_as_on_the_cpu(precision, tolerance, tmp_path):
    losses = {}
    for accelerator in ("cpu", "tpu_dynamo"):
        fabric = lightning.Fabric(
            accelerator=accelerator, devices=1, precision="32-true" if accelerator == "cpu" else precision
        )
        fabric.launch()
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(SIZE, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        plain = net if accelerator == "cpu" else compiled(net)
        model, optimizer = fabric.setup(plain, torch.optim.AdamW(net.parameters(), lr=1e-2))
        kept = []
        for x, y in fabric.setup_dataloaders(loader()):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x).float(), y)
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=100.0)
            optimizer.step()
            kept.append(loss.item())
        losses[accelerator] = torch.tensor(kept)
        assert next(net.parameters()).device.type == fabric.device.type
    assert not tpu_dynamo.stats().fallbacks
    torch.testing.assert_close(losses["tpu_dynamo"], losses["cpu"], rtol=tolerance, atol=tolerance)
    fabric.save(tmp_path / "state.ckpt", {"model": model, "optimizer": optimizer})
    saved = net[0].weight.detach().cpu().clone()
    with torch.no_grad():
        net[0].weight.zero_()
    fabric.load(tmp_path / "state.ckpt", {"model": model, "optimizer": optimizer})
    assert net[0].weight.device.type == "tpu" and torch.equal(net[0].weight.detach().cpu(), saved)
