"""Values for the models: small inputs, weights, and the latter as the same model in JAX takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import torch

# Inputs of a family, smaller than those that are counted.
SHAPES = {
    "GPT-2": [(2, 9)], "Llama": [(2, 9)], "BERT": [(2, 9)], "ViT": [(2, 3, 224, 224)], "ResNet-50": [(2, 3, 64, 64)],
    "U-Net": [(2, 4, 8, 8), (2,)], "Mixtral": [(2, 9)], "Mamba-2": [(2, 512)], "T5": [(2, 150), (2, 9)],
    "Whisper": [(1, 80, 3000)],
}  # fmt: skip
# What a weight is called in both.
_PARTS = {
    "kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var",
}  # fmt: skip
_DECODERS = {
    r"words": "model.embed_tokens.weight",
    r"(\d+)\.first\.": "model.layers.{}.input_layernorm.",
    r"(\d+)\.second\.": "model.layers.{}.post_attention_layernorm.",
    r"(\d+)\.([qkv])\.": "model.layers.{}.self_attn.{}_proj.",
    r"(\d+)\.merge\.": "model.layers.{}.self_attn.o_proj.",
    r"last\.": "model.norm.",
    r"head\.": "lm_head.",
}
# For each family, from patterns of names in JAX to those in PyTorch, up to the last dot.
NAMES: dict[str, dict[str, str]] = {
    "GPT-2": {
        r"words": "transformer.wte.weight",
        r"places": "transformer.wpe.weight",
        r"(\d+)\.(?:first)\.": "transformer.h.{}.ln_1.",
        r"(\d+)\.(?:second)\.": "transformer.h.{}.ln_2.",
        r"(\d+)\.attention\.[qkv]\.": "transformer.h.{}.attn.c_attn.",
        r"(\d+)\.attention\.merge\.": "transformer.h.{}.attn.c_proj.",
        r"(\d+)\.mlp\.in\.": "transformer.h.{}.mlp.c_fc.",
        r"(\d+)\.mlp\.out\.": "transformer.h.{}.mlp.c_proj.",
        r"last\.": "transformer.ln_f.",
    },
    "Llama": {**_DECODERS, r"(\d+)\.(gate|up|down)\.": "model.layers.{}.mlp.{}_proj."},
    "BERT": {
        r"words": "embeddings.word_embeddings.weight",
        r"places": "embeddings.position_embeddings.weight",
        r"types": "embeddings.token_type_embeddings.weight",
        r"first\.": "embeddings.LayerNorm.",
        r"(\d+)\.attention\.q\.": "encoder.layer.{}.attention.self.query.",
        r"(\d+)\.attention\.k\.": "encoder.layer.{}.attention.self.key.",
        r"(\d+)\.attention\.v\.": "encoder.layer.{}.attention.self.value.",
        r"(\d+)\.attention\.merge\.": "encoder.layer.{}.attention.output.dense.",
        r"(\d+)\.first\.": "encoder.layer.{}.attention.output.LayerNorm.",
        r"(\d+)\.mlp\.in\.": "encoder.layer.{}.intermediate.dense.",
        r"(\d+)\.mlp\.out\.": "encoder.layer.{}.output.dense.",
        r"(\d+)\.second\.": "encoder.layer.{}.output.LayerNorm.",
    },
    "ViT": {
        r"class": "embeddings.cls_token",
        r"places": "embeddings.position_embeddings",
        r"patches\.": "embeddings.patch_embeddings.projection.",
        r"(\d+)\.attention\.([qkv])\.": "layers.{}.attention.{}_proj.",
        r"(\d+)\.attention\.merge\.": "layers.{}.attention.o_proj.",
        r"(\d+)\.first\.": "layers.{}.layernorm_before.",
        r"(\d+)\.second\.": "layers.{}.layernorm_after.",
        r"(\d+)\.mlp\.in\.": "layers.{}.mlp.fc1.",
        r"(\d+)\.mlp\.out\.": "layers.{}.mlp.fc2.",
        r"last\.": "layernorm.",
    },
    "ResNet-50": {
        r"stem\.norm\.": "embedder.embedder.normalization.",
        r"stem\.": "embedder.embedder.convolution.",
        r"(\d+)\.(\d+)\.shortcut\.norm\.": "encoder.stages.{}.layers.{}.shortcut.normalization.",
        r"(\d+)\.(\d+)\.shortcut\.": "encoder.stages.{}.layers.{}.shortcut.convolution.",
        **{
            rf"(\d+)\.(\d+)\.{word}\.{part}": f"encoder.stages.{{}}.layers.{{}}.layer.{number}.{kind}."
            for number, word in enumerate(("first", "second", "third"))
            for part, kind in ((r"norm\.", "normalization"), ("", "convolution"))
        },
    },
    "U-Net": {r"(.+)\.": "{}."},
    "Mixtral": {
        **_DECODERS,
        r"(\d+)\.router\.": "model.layers.{}.mlp.gate.",
        r"(\d+)\.(gate_up|down)": "model.layers.{}.mlp.experts.{}_proj",
    },
    "Mamba-2": {
        r"words": "backbone.embeddings.weight",
        r"(\d+)\.first\.": "backbone.layers.{}.norm.",
        r"(\d+)\.(in|out)\.": "backbone.layers.{}.mixer.{}_proj.",
        r"(\d+)\.gated\.": "backbone.layers.{}.mixer.norm.",
        r"(\d+)\.convolution\.": "backbone.layers.{}.mixer.conv1d.",
        r"(\d+)\.convolution": "backbone.layers.{}.mixer.conv1d.weight",
        r"(\d+)\.step": "backbone.layers.{}.mixer.dt_bias",
        r"(\d+)\.decay": "backbone.layers.{}.mixer.A_log",
        r"(\d+)\.skip": "backbone.layers.{}.mixer.D",
        r"last\.": "backbone.norm_f.",
        r"head\.": "lm_head.",
    },
    "T5": {
        r"words": "model.shared.weight",
        r"(\w+)\.places": "model.{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        r"(\w+)\.(\d+)\.first\.": "model.{}.block.{}.layer.0.layer_norm.",
        r"(\w+)\.(\d+)\.self\.([qkv])\.": "model.{}.block.{}.layer.0.SelfAttention.{}.",
        r"(\w+)\.(\d+)\.self\.merge\.": "model.{}.block.{}.layer.0.SelfAttention.o.",
        r"(\w+)\.(\d+)\.cross\.": "model.{}.block.{}.layer.1.layer_norm.",
        r"(\w+)\.(\d+)\.other\.([qkv])\.": "model.{}.block.{}.layer.1.EncDecAttention.{}.",
        r"(\w+)\.(\d+)\.other\.merge\.": "model.{}.block.{}.layer.1.EncDecAttention.o.",
        **{
            rf"{side}\.(\d+)\.{part}\.": f"model.{side}.block.{{}}.layer.{last}.{name}."
            for side, last in (("encoder", 1), ("decoder", 2))
            for part, name in (("second", "layer_norm"), ("in", "DenseReluDense.wi"), ("out", "DenseReluDense.wo"))
        },
        r"(\w+)\.last\.": "model.{}.final_layer_norm.",
    },
    "Whisper": {
        r"first\.": "conv1.",
        r"second\.": "conv2.",
        r"places": "embed_positions.weight",
        r"(\d+)\.([qkv])\.": "layers.{}.self_attn.{}_proj.",
        r"(\d+)\.merge\.": "layers.{}.self_attn.out_proj.",
        r"(\d+)\.first\.": "layers.{}.self_attn_layer_norm.",
        r"(\d+)\.second\.": "layers.{}.final_layer_norm.",
        r"(\d+)\.mlp\.in\.": "layers.{}.fc1.",
        r"(\d+)\.mlp\.out\.": "layers.{}.fc2.",
        r"last\.": "layer_norm.",
    },
}


def name_in_torch(family: str, name: str) -> str:
    """Return what a weight of a family's model in JAX is called in PyTorch."""
    for pattern, template in NAMES[family].items():
        found = re.fullmatch(f"({pattern})({'|'.join(_PARTS)})?", name)
        if found is not None and pattern.endswith(".") == (found.groups()[-1] is not None):
            _, *groups, part = found.groups()
            return template.format(*groups) + (_PARTS[part] if part else "")
    raise LookupError(f"{family} has no weight {name}")


def weights_from(
    family: str, model: torch.nn.Module, shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Return a PyTorch model's weights under the names, and in the shapes and dtypes, of the model in JAX."""
    state, weights = model.state_dict(), {}
    for name, expected in shapes.items():
        value = state[name_in_torch(family, name)]
        if family == "GPT-2" and (found := re.search(r"attention\.([qkv])\.", name)):
            value = value.chunk(3, -1)["qkv".index(found[1])]
        elif value.ndim > 2 and value.shape == expected.shape:  # channels first, as in PyTorch
            pass
        elif name.endswith((".kernel", ".convolution")) and family != "GPT-2":  # [out, in, ...] to [..., in, out]
            value = value.permute(*range(2, value.ndim), 1, 0)
        elif name.endswith((".gate_up", ".down")):
            value = value.transpose(1, 2)
        weights[name] = jnp.asarray(value.float().numpy()).reshape(expected.shape).astype(expected.dtype)
    return weights


def random_inputs(family: str) -> list[torch.Tensor]:
    """Return inputs for a family's PyTorch model: numbers of words or steps, or float32."""
    return [torch.randint(500, shape) if len(shape) < 3 else torch.randn(shape) for shape in SHAPES[family]]


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Add random numbers to a model's weights: norms and biases as they are at first would hide mistakes."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) * 0.05 if value.ndim == 1 else torch.randn_like(value) * 0.02)
