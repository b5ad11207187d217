"""Families of models: the PyTorch module with its inputs, and the same in JAX in each of its phrasings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
import transformers as t
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from tpu_dynamo_lowering import jax_compat

from . import convolutional, denoising, encoders, sparse_and_state, transformers
from .phrasings import PHRASINGS, Take

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """One family of models.

    build: returns the PyTorch module and its inputs, both on a device, the meta device if none is named. phrasings: functions of `Take` and the
    inputs. inputs: of these, shapes by phrasing where it matters.
    """

    build: Callable[..., Built]
    phrasings: Mapping[str, Callable[..., Any]]
    inputs: Callable[[str], tuple[jax.ShapeDtypeStruct, ...]]


def weights_of(
    function: Callable[..., Any], inputs: tuple[jax.ShapeDtypeStruct, ...], dtype: Any = jnp.bfloat16
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of the weights that a function of `Take` and inputs takes, by name."""
    found: dict[str, jax.ShapeDtypeStruct] = {}

    def record(name: str, *shape: int) -> jax.Array:
        found[name] = jax.ShapeDtypeStruct(shape, dtype)
        return jnp.zeros(shape, dtype)

    jax.eval_shape(partial(function, record), *inputs)
    return found


def lowered(function: Callable[..., Any], inputs: tuple[jax.ShapeDtypeStruct, ...], dtype: Any = jnp.bfloat16) -> bytes:
    """Return the StableHLO of a function of `Take` and inputs, whose weights become its first parameters."""
    found = weights_of(function, inputs, dtype)

    def program(weights: Mapping[str, jax.Array], *given: jax.Array) -> Any:
        return function(reader(weights), *given)

    traced = jax.jit(program).trace(found, *inputs)
    return jax_compat.to_bytecode(traced.lower(lowering_platforms=("tpu",)).compiler_ir("stablehlo"))


def reader(weights: Mapping[str, jax.Array]) -> Take:
    return lambda name, *shape: weights[name]


def tokens(batch: int, length: int) -> Callable[[str], tuple[jax.ShapeDtypeStruct, ...]]:
    return lambda phrasing: (jax.ShapeDtypeStruct((batch, length), jnp.int32),)


def pictures(batch: int, size: int) -> Callable[[str], tuple[jax.ShapeDtypeStruct, ...]]:
    def shapes(phrasing: str) -> tuple[jax.ShapeDtypeStruct, ...]:
        shape = (batch, 3, size, size) if phrasing.startswith("channels first") else (batch, size, size, 3)
        return (jax.ShapeDtypeStruct(shape, jnp.bfloat16),)

    return shapes


def of_transformers(
    device: str, model: Callable[..., torch.nn.Module], config: Any, shape: Shape, words: bool = True
) -> Built:
    """Build a model of transformers and an input of tokens, or of images in bfloat16."""
    with torch.device(device):
        built = model(config).to(torch.bfloat16).eval()
        return built, (torch.empty(shape, dtype=torch.int64 if words else torch.bfloat16),)


class ByName(torch.nn.Module):
    """A model that takes its inputs by name."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def gpt2(device: str = "meta") -> Built:
    return of_transformers(
        device, t.GPT2LMHeadModel, t.GPT2Config(n_layer=transformers.LAYERS, use_cache=False), (8, 512)
    )


def llama(device: str = "meta") -> Built:
    config = t.LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_attention_heads=32, num_key_value_heads=4, num_hidden_layers=transformers.LAYERS,
        vocab_size=32000, use_cache=False,
    )  # fmt: skip
    return of_transformers(device, t.LlamaForCausalLM, config, (4, 512))


def bert(device: str = "meta") -> Built:
    model = partial(t.BertModel, add_pooling_layer=False)
    return of_transformers(device, model, t.BertConfig(num_hidden_layers=transformers.LAYERS), (16, 256))


def vit(device: str = "meta") -> Built:
    model = partial(t.ViTModel, add_pooling_layer=False)
    return of_transformers(
        device, model, t.ViTConfig(num_hidden_layers=transformers.LAYERS), (16, 3, 224, 224), words=False
    )


def resnet50(device: str = "meta") -> Built:
    return of_transformers(device, t.ResNetModel, t.ResNetConfig(), (16, 3, 224, 224), words=False)


def t5(device: str = "meta") -> Built:
    config = t.T5Config(
        d_model=768, d_kv=64, d_ff=3072, num_heads=12, num_layers=transformers.LAYERS, num_decoder_layers=transformers.LAYERS, use_cache=False
    )  # fmt: skip
    model, (words,) = of_transformers(device, t.T5Model, config, (8, 512))
    return ByName(model, ("input_ids", "decoder_input_ids")), (words, words[:, :128])


def whisper(device: str = "meta") -> Built:
    config = t.WhisperConfig(
        d_model=768,
        encoder_layers=transformers.LAYERS,
        encoder_attention_heads=12,
        encoder_ffn_dim=3072,
        num_mel_bins=80,
    )
    return of_transformers(device, WhisperEncoder, config, (4, 80, 3000), words=False)


def mixtral(device: str = "meta") -> Built:
    config = t.MixtralConfig(
        hidden_size=1024, intermediate_size=2048, num_hidden_layers=transformers.LAYERS, num_attention_heads=16, num_key_value_heads=4,
        num_local_experts=8, num_experts_per_tok=2, vocab_size=32000, use_cache=False,
    )  # fmt: skip
    return of_transformers(device, t.MixtralForCausalLM, config, (4, 512))


def mamba2(device: str = "meta") -> Built:
    config = t.Mamba2Config(
        hidden_size=1024, num_hidden_layers=transformers.LAYERS, num_heads=32, head_dim=64, n_groups=1, state_size=128, vocab_size=32000,
        use_cache=False,
    )  # fmt: skip
    return of_transformers(device, t.Mamba2ForCausalLM, config, (4, 512))


def unet(device: str = "meta") -> Built:
    with torch.device(device):
        model = denoising.UNet().to(torch.bfloat16).eval()
        return model, (torch.empty(8, denoising.IMAGE, 64, 64, dtype=torch.bfloat16), torch.empty(8, dtype=torch.int64))


def noisy_images(phrasing: str) -> tuple[jax.ShapeDtypeStruct, ...]:
    images = jax.ShapeDtypeStruct((8, 64, 64, denoising.IMAGE), jnp.bfloat16)
    return images, jax.ShapeDtypeStruct((8,), jnp.int32)


def of(model: Callable[..., Any], phrasings: Mapping[str, Any] = PHRASINGS) -> dict[str, Callable[..., Any]]:
    return {name: partial(model, phrasing) for name, phrasing in phrasings.items()}


WITHOUT_LAYER_NORM = {name: phrasing for name, phrasing in PHRASINGS.items() if "norms" not in name}

FAMILIES: dict[str, Family] = {
    "GPT-2": Family(gpt2, of(transformers.gpt2), tokens(8, 512)),
    "Llama": Family(llama, of(transformers.llama, WITHOUT_LAYER_NORM), tokens(4, 512)),
    "BERT": Family(bert, of(transformers.bert), tokens(16, 256)),
    "ViT": Family(vit, of(transformers.vit), pictures(16, 224)),
    "ResNet-50": Family(resnet50, of(convolutional.resnet50, convolutional.IMAGES), pictures(16, 224)),
    "U-Net": Family(unet, of(denoising.unet, WITHOUT_LAYER_NORM), noisy_images),
    "Mixtral": Family(
        mixtral,
        {
            f"{mixture}, {name}": partial(sparse_and_state.mixtral, mixture, PHRASINGS[name])
            for mixture in sparse_and_state.MIXTURES
            for name in ("by hand", "with libraries")
        },
        tokens(4, 512),
    ),
    "Mamba-2": Family(
        mamba2,
        {
            name: partial(sparse_and_state.mamba2, scanned, PHRASINGS["by hand"])
            for name, scanned in {"chunks in a loop": True, "pairs of chunks": False}.items()
        },
        tokens(4, 512),
    ),
    "T5": Family(t5, of(encoders.t5, WITHOUT_LAYER_NORM), lambda _: (*tokens(8, 512)(""), *tokens(8, 128)(""))),
    "Whisper": Family(whisper, of(encoders.whisper), lambda _: (jax.ShapeDtypeStruct((4, 3000, 80), jnp.bfloat16),)),
}
