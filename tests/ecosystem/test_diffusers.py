"""diffusers on the device: schedulers, pipelines from small configs, training with averaged weights."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import tpu_dynamo

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the library's own warnings


@pytest.fixture(scope="module", name="diffusers", autouse=True)
def diffusers_library() -> Any:
    """Import diffusers before a test begins: what it imports sets variables of the environment."""
    pytest.importorskip("PIL", reason="Pillow is not installed (the extra `ecosystem`)")
    imported = pytest.importorskip("diffusers", reason="diffusers is not installed (the extra `ecosystem`)")
    imported.utils.logging.set_verbosity_error()
    return imported


def close(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    scale = torch.as_tensor(theirs).abs().max().item()
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs), rtol=tolerance, atol=tolerance * scale)


def quiet(pipeline: Any, device: str) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generator(device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def autoencoder(diffusers: Any, **more: Any) -> Any:
    torch.manual_seed(1)
    down, up = ("DownEncoderBlock2D",), ("UpDecoderBlock2D",)
    sizes = {"block_out_channels": (4,), "norm_num_groups": 2, "latent_channels": 4} | more
    return diffusers.AutoencoderKL(3, 3, down_block_types=down, up_block_types=up, **sizes).eval()


def unconditional(diffusers: Any) -> Any:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("AttnDownBlock2D",), "up_block_types": ("AttnUpBlock2D",)}
    sizes = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    return diffusers.UNet2DModel(8, 3, 3, **blocks, **sizes)


def sampled(scheduler: Any, device: str) -> torch.Tensor:
    """Return what four steps of a scheduler make of noise, with a stand-in for the model."""
    scheduler.set_timesteps(4, device=device)
    draws = generator()
    sample = torch.randn(1, 3, 4, 4, generator=draws).to(device)
    takes_draws = "generator" in inspect.signature(scheduler.step).parameters
    for time in scheduler.timesteps:
        if hasattr(scheduler, "scale_model_input"):
            sample = scheduler.scale_model_input(sample, time)
        noise = torch.sin(sample * 3) + time.to(sample.dtype) / 1000
        sample = scheduler.step(noise, time, sample, **({"generator": draws} if takes_draws else {})).prev_sample
        assert sample.device.type == device
    return sample.cpu()


@pytest.mark.shows(
    "diffusers",
    "schedulers with tensors of the device: DDPM, DDIM, Euler, Heun, KDPM2, LMS, DPM++, DEIS, UniPC, PNDM, LCM, flow matching",
    'scheduler.set_timesteps(30, device="tpu")',
)
@pytest.mark.parametrize(
    "name",
    ["DDPM", "DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "LMSDiscrete",
     "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "PNDM", "LCM",
     "FlowMatchEulerDiscrete"],
)  # fmt: skip
def test_schedulers_step_as_on_the_cpu(diffusers, name):
    scheduler = getattr(diffusers, f"{name}Scheduler")
    close(sampled(scheduler(), "tpu"), sampled(scheduler(), "cpu"))


@pytest.mark.shows(
    "diffusers",
    "`DDPMPipeline` and `DDIMPipeline`, eager and with a compiled UNet, with generators of the CPU and the device",
    'pipe.unet = torch.compile(pipe.unet, backend="tpu")',
)
@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
def test_unconditional_images_are_the_cpus(diffusers, kind):
    def images(device: str, compiled: bool = False, draws: str = "cpu", steps: int = 2) -> Any:
        model = unconditional(diffusers).eval()
        scheduler = getattr(diffusers, f"{kind}Scheduler")()
        pipeline = quiet(getattr(diffusers, f"{kind}Pipeline")(unet=model, scheduler=scheduler), device)
        if compiled:
            pipeline.unet = torch.compile(pipeline.unet, backend="tpu")
        return pipeline(num_inference_steps=steps, generator=generator(draws), output_type="np").images

    expected = images("cpu")
    close(images("tpu"), expected)
    close(images("tpu", compiled=True), expected)
    first, second = (images("tpu", compiled=True, draws="tpu") for _ in range(2))
    assert (first == second).all() and not (first == expected).all()


@pytest.mark.shows(
    "diffusers",
    "`StableDiffusionPipeline`: a CLIP text model, guidance, five schedulers, and a compiled UNet and decoder",
    "pipe(prompt, generator=torch.Generator().manual_seed(0))",
)
def test_guided_images_are_the_cpus_and_a_step_compiles_nothing(diffusers):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra `ecosystem`)")

    def pipeline(device: str) -> Any:
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            8, 4, 4, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
            block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
        )  # fmt: skip
        text = transformers.CLIPTextConfig(
            vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        parts = {
            "vae": autoencoder(diffusers), "text_encoder": transformers.CLIPTextModel(text).eval(), "tokenizer": None,
            "unet": unet.eval(), "scheduler": diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        }  # fmt: skip
        made = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
        return quiet(made, device)

    def images(made: Any, steps: int = 3) -> Any:
        embedded = made.text_encoder(torch.arange(8, device=made.device)[None])[0]
        given = {"prompt_embeds": embedded, "negative_prompt_embeds": torch.zeros_like(embedded)}
        size = {"height": 8, "width": 8, "num_inference_steps": steps}
        return made(**given, **size, generator=generator(), output_type="np").images

    here, there = pipeline("cpu"), pipeline("tpu")
    close(images(there), images(here))
    there.unet = torch.compile(there.unet, backend="tpu")
    there.vae.decode = torch.compile(there.vae.decode, backend="tpu")
    close(images(there), images(here))
    before = tpu_dynamo.stats()
    images(there, steps=4)
    middle = tpu_dynamo.stats()
    images(there, steps=5)
    after = tpu_dynamo.stats()
    assert after.lowerings == before.lowerings and not after.fallbacks
    assert after.bytes_to_device - middle.bytes_to_device < middle.bytes_to_device - before.bytes_to_device + 64
    for name in ("EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "EulerAncestralDiscrete"):
        for made in (here, there):
            made.scheduler = getattr(diffusers, f"{name}Scheduler").from_config(made.scheduler.config)
        close(images(there), images(here))


@pytest.mark.shows(
    "diffusers",
    "transformers instead of a UNet: `DiTPipeline`, `FluxPipeline`",
    'pipe.transformer = torch.compile(pipe.transformer, backend="tpu")',
)
@pytest.mark.parametrize("kind", ["DiT", "Flux"])
def test_images_of_transformers_are_the_cpus(diffusers, kind):
    def dit(device: str) -> Any:
        torch.manual_seed(0)
        model = diffusers.DiTTransformer2DModel(
            2, 4, in_channels=4, out_channels=8, num_layers=1, norm_num_groups=4, sample_size=4
        ).eval()
        return diffusers.DiTPipeline(model, autoencoder(diffusers), diffusers.DDIMScheduler())

    def flux(device: str) -> Any:
        torch.manual_seed(0)
        model = diffusers.FluxTransformer2DModel(
            1, 4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
            pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        ).eval()  # fmt: skip
        vae = autoencoder(diffusers, latent_channels=1, shift_factor=0.1, scaling_factor=1.5)
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        texts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        return diffusers.FluxPipeline(scheduler, vae, transformer=model, **texts)

    def images(made: Any) -> Any:
        given: dict[str, Any] = {"class_labels": [1, 3]}
        if kind == "Flux":
            words = torch.arange(64.0).sin().view(1, 2, 32).to(made.device)
            given = {"prompt_embeds": words, "pooled_prompt_embeds": words[:, 0], "height": 8, "width": 8}
        return made(**given, num_inference_steps=2, generator=generator(), output_type="np").images

    make = dit if kind == "DiT" else flux
    here, there = (quiet(make(device), device) for device in ("cpu", "tpu"))
    expected = images(here)
    close(images(there), expected)
    there.transformer = torch.compile(there.transformer, backend="tpu")
    close(images(there), expected)


@pytest.mark.shows(
    "diffusers",
    "training a compiled UNet with `EMAModel`; a step moves the batch in and the loss out",
    "EMAModel(unet.parameters(), model_cls=UNet2DModel, model_config=unet.config)",
)
def test_training_with_averaged_weights_is_the_cpus(diffusers, tmp_path):
    from diffusers.training_utils import EMAModel

    def trained(device: str) -> tuple[list[float], list[torch.Tensor], list[Any]]:
        model = unconditional(diffusers).to(device)
        called = torch.compile(model, backend="tpu") if device == "tpu" else model
        average = EMAModel(model.parameters(), decay=0.9, model_cls=diffusers.UNet2DModel, model_config=model.config)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        scheduler = diffusers.DDPMScheduler()
        losses, counts = [], []
        for step in range(3):
            draws = torch.Generator().manual_seed(step)
            images, noise = (torch.randn(2, 3, 8, 8, generator=draws).to(device) for _ in range(2))
            times = torch.randint(0, 1000, (2,), generator=draws).to(device)
            noised = scheduler.add_noise(images, noise, times)
            loss = torch.nn.functional.mse_loss(called(noised, times).sample, noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.step(model.parameters())
            losses.append(loss.item())
            counts.append(tpu_dynamo.stats())
        average.save_pretrained(str(tmp_path / device))
        EMAModel.from_pretrained(str(tmp_path / device), diffusers.UNet2DModel)
        average.copy_to(model.parameters())
        return losses, [p.detach().cpu() for p in model.parameters()], counts

    (theirs, expected, _), (ours, found, (_, before, after)) = trained("cpu"), trained("tpu")
    assert ours == pytest.approx(theirs, rel=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert after.lowerings == before.lowerings and not after.fallbacks
    batch, numbers = 2 * 4 * 2 * 3 * 8 * 8 + 2 * 8, 64 * len(found)  # EMAModel goes from parameter to parameter
    assert after.bytes_to_host - before.bytes_to_host <= 128
    assert after.bytes_to_device - before.bytes_to_device <= batch + numbers
