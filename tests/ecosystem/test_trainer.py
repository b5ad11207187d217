"""transformers' Trainer and accelerate's Accelerator: one script on both devices, with the lines of a CUDA script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tpu_dynamo

transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra `ecosystem`)")
accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (the extra `ecosystem`)")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

DATA = [{"input_ids": torch.arange(8) * i % 32, "labels": torch.arange(8) * i % 32} for i in range(1, 9)]
COMPILED = {"torch_compile": True, "torch_compile_backend": "tpu"}


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch):
    """Forget accelerate's state of the process, and the variables that transformers sets for it."""
    for name in ("ACCELERATE_TORCH_DEVICE", "ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_DYNAMO_MODE",
                 "ACCELERATE_MIXED_PRECISION"):  # fmt: skip
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def tiny_model() -> torch.nn.Module:
    torch.manual_seed(0)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None, **dropout
    )
    return transformers.GPT2LMHeadModel(config)


def trainer_of(folder: Path, model: torch.nn.Module | None = None, **given: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=4, report_to=[], disable_tqdm=True, save_steps=2, logging_steps=1,
        per_device_train_batch_size=2, learning_rate=1e-2, **given,
    )  # fmt: skip
    return transformers.Trainer(model=model or tiny_model(), args=arguments, train_dataset=DATA, eval_dataset=DATA[:4])


def losses_of(trainer: Any) -> torch.Tensor:
    return torch.tensor([float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry])


@pytest.mark.shows("transformers", "`Trainer` on the device", "Trainer(model, args)")
def test_trainer_and_accelerator_agree_on_the_device(tmp_path):
    trainer = trainer_of(tmp_path)
    assert trainer.args.device == trainer.accelerator.device == next(trainer.model.parameters()).device
    assert trainer.args.device == torch.device("tpu", 0)


@pytest.mark.shows("transformers", "the CPU where it is asked for", "TrainingArguments(use_cpu=True)")
def test_the_cpu_is_taken_where_it_is_asked_for(tmp_path):
    trainer = trainer_of(tmp_path, use_cpu=True)
    assert trainer.args.device.type == trainer.accelerator.device.type == "cpu"
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert accelerate.Accelerator(cpu=True).device.type == "cpu"


@pytest.mark.shows(
    "accelerate",
    "`Accelerator` on the device, compiled, in bfloat16, and in float16 with a scaler",
    'Accelerator(dynamo_backend="tpu", mixed_precision="bf16")',
)
@pytest.mark.parametrize("mixed_precision", ["no", "bf16", "fp16"])
def test_an_accelerator_takes_the_backend_and_each_precision(mixed_precision):
    accelerator = accelerate.Accelerator(dynamo_backend="tpu", mixed_precision=mixed_precision)
    assert accelerator.device == torch.device("tpu", 0)
    assert accelerator.state.dynamo_plugin.to_kwargs()["backend"] == "tpu"
    assert (accelerator.scaler is not None) == (mixed_precision == "fp16")
    model = accelerator.prepare(torch.nn.Linear(4, 4))
    assert model(torch.ones(2, 4, device="tpu")).device.type == "tpu"
    assert tpu_dynamo.stats().graphs


@pytest.mark.shows("accelerate", "`save_state` and `load_state`", "accelerator.load_state(folder)")
def test_state_is_saved_and_loaded(tmp_path):
    accelerator = accelerate.Accelerator()
    model = torch.nn.Linear(4, 4)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    accelerator.backward(model(torch.ones(2, 4, device="tpu")).sum())
    optimizer.step()
    accelerator.save_state(str(tmp_path))
    saved = model.weight.detach().cpu().clone()
    with torch.no_grad():
        model.weight.zero_()
    accelerator.load_state(str(tmp_path))
    assert model.weight.device.type == "tpu" and torch.equal(model.weight.detach().cpu(), saved)


@pytest.mark.shows(
    "transformers",
    "a compiled `Trainer` in float32, bf16 and fp16, with accumulation and checkpointing; evaluate, predict; losses as the CPU's",
    'TrainingArguments(torch_compile=True, torch_compile_backend="tpu", bf16=True)',
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "tolerance"),
    [
        pytest.param({}, 1e-5, id="float32"),
        pytest.param({"bf16": True}, 2e-3, id="bf16"),
        pytest.param({"fp16": True}, 1e-3, id="fp16"),
        pytest.param({"gradient_accumulation_steps": 2, "gradient_checkpointing": True}, 1e-5, id="accumulated"),
    ],
)
def test_losses_are_the_cpus(given, tolerance, tmp_path):
    plain = {name: value for name, value in given.items() if name == "gradient_accumulation_steps"}
    reference = trainer_of(tmp_path / "cpu", use_cpu=True, **plain)
    reference.train()
    trainer = trainer_of(tmp_path / "tpu", **COMPILED, **given)
    trainer.train()
    stats = tpu_dynamo.stats()
    assert not stats.fallbacks and stats.graphs["backward"]
    torch.testing.assert_close(losses_of(trainer), losses_of(reference), rtol=tolerance, atol=0)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(reference.evaluate()["eval_loss"], rel=tolerance)
    assert trainer.predict(DATA[:4]).predictions.shape == reference.predict(DATA[:4]).predictions.shape


@pytest.mark.shows("transformers", "resuming from a checkpoint", "trainer.train(resume_from_checkpoint=folder)")
@pytest.mark.slow
def test_a_run_is_resumed_from_its_checkpoint(tmp_path):
    whole = trainer_of(tmp_path, **COMPILED)
    whole.train()
    resumed = trainer_of(tmp_path, **COMPILED)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(losses_of(resumed), losses_of(whole))


@pytest.mark.shows("transformers", "pipelines", 'pipeline("audio-classification", model, device="tpu")')
@pytest.mark.slow
def test_a_pipeline_runs_on_the_device():
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=(8, 8),
        conv_kernel=(8, 4), conv_stride=(8, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, num_labels=3,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForSequenceClassification(config).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor()
    sound = torch.sin(torch.arange(800) / 9).numpy()
    scores = []
    for device in ("cpu", "tpu"):
        pipeline = transformers.pipeline("audio-classification", model, feature_extractor=extractor, device=device)
        scores.append({each["label"]: each["score"] for each in pipeline(sound)})
    assert model.device.type == "tpu"
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)


@pytest.mark.shows(
    "peft", "LoRA: training, saving, loading, merging", 'PeftModel.from_pretrained(model, folder).to("tpu")'
)
@pytest.mark.slow
def test_lora_trains_saves_loads_and_merges(tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed (the extra `ecosystem`)")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM", init_lora_weights=False)
    losses = {}
    for device in ("cpu", "tpu"):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        model = peft.get_peft_model(tiny_model(), config)
        given = COMPILED if device == "tpu" else {"use_cpu": True}
        trainer = trainer_of(tmp_path / device, model, **given)
        trainer.train()
        losses[device] = losses_of(trainer)
    torch.testing.assert_close(losses["tpu"], losses["cpu"], rtol=1e-5, atol=0)
    model.save_pretrained(str(tmp_path / "adapter"))
    loaded = peft.PeftModel.from_pretrained(tiny_model(), str(tmp_path / "adapter")).to("tpu")
    tokens = torch.arange(6, device="tpu")[None]
    with torch.no_grad():
        expected = model(tokens).logits.cpu()
        torch.testing.assert_close(loaded(tokens).logits.cpu(), expected)
        torch.testing.assert_close(loaded.merge_and_unload()(tokens).logits.cpu(), expected)
