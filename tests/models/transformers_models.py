"""Models of transformers built from configurations, small, with random weights; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

TEXT = dict(
    vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
IMAGE = dict(
    image_size=24, patch_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_labels=5,
)  # fmt: skip
PYRAMID = dict(
    num_labels=5, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], embedding_size=8, num_channels=3, image_size=32,
)  # fmt: skip


def tokens(batch: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(3, 120, (batch, length))


def decoder() -> dict[str, Any]:
    return dict(input_ids=tokens(), use_cache=False)


def encoder() -> dict[str, Any]:
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    return dict(input_ids=tokens(), attention_mask=mask)


def pair() -> dict[str, Any]:
    return dict(input_ids=tokens(), decoder_input_ids=tokens(length=7), use_cache=False)


def image(size: int) -> Callable[[], dict[str, Any]]:
    return lambda: dict(pixel_values=torch.randn(2, 3, size, size))


# Class name without "Config" -> model class, configuration, inputs.
MODELS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "Qwen3": ("Qwen3ForCausalLM", dict(TEXT, num_key_value_heads=2, head_dim=8), decoder),
    "Olmo2": ("Olmo2ForCausalLM", dict(TEXT, num_key_value_heads=2), decoder),
    "Cohere": ("CohereForCausalLM", dict(TEXT, num_key_value_heads=2), decoder),
    "StableLm": ("StableLmForCausalLM", dict(TEXT, num_key_value_heads=4), decoder),
    "GPTJ": ("GPTJForCausalLM", dict(vocab_size=120, n_positions=64, n_embd=32, n_layer=2, n_head=4, rotary_dim=4), decoder),
    "Bloom": ("BloomForCausalLM", dict(vocab_size=120, hidden_size=32, n_layer=2, n_head=4), decoder),
    "Falcon": ("FalconForCausalLM", dict(vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4), decoder),
    "GPTBigCode": ("GPTBigCodeForCausalLM", dict(vocab_size=120, n_positions=64, n_embd=32, n_layer=2, n_head=4), decoder),
    "Qwen2Moe": (
        "Qwen2MoeForCausalLM",
        dict(TEXT, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
             shared_expert_intermediate_size=16),
        decoder,
    ),
    "Electra": ("ElectraForMaskedLM", dict(TEXT, embedding_size=16), encoder),
    "Albert": ("AlbertForMaskedLM", dict(TEXT, embedding_size=16), encoder),
    "MPNet": ("MPNetForMaskedLM", dict(TEXT, pad_token_id=1), encoder),
    "ConvBert": ("ConvBertForMaskedLM", dict(TEXT, embedding_size=32), encoder),
    "FNet": ("FNetForMaskedLM", dict(TEXT, type_vocab_size=2), lambda: dict(input_ids=tokens())),
    "Pegasus": (
        "PegasusForConditionalGeneration",
        dict(vocab_size=120, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
             decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64),
        pair,
    ),
    "UMT5": ("UMT5ForConditionalGeneration", dict(vocab_size=120, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4), pair),
    "Hubert": (
        "HubertForCTC",
        dict(vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
             conv_dim=(16, 16), conv_stride=(5, 2), conv_kernel=(10, 3), num_conv_pos_embeddings=8,
             num_conv_pos_embedding_groups=4),
        lambda: dict(input_values=torch.randn(2, 800)),
    ),
    "DeiT": ("DeiTForImageClassification", IMAGE, image(24)),
    "Dinov2": ("Dinov2ForImageClassification", IMAGE, image(24)),
    "MobileNetV2": ("MobileNetV2ForImageClassification", dict(image_size=32, depth_multiplier=0.25, num_labels=5), image(32)),
    "RegNet": ("RegNetForImageClassification", dict(PYRAMID, groups_width=8), image(32)),
    "ConvNextV2": ("ConvNextV2ForImageClassification", PYRAMID, image(32)),
    "Segformer": (
        "SegformerForImageClassification",
        dict(num_labels=5, hidden_sizes=[8, 16], num_encoder_blocks=2, depths=[1, 1], num_attention_heads=[1, 2],
             sr_ratios=[4, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=16),
        image(32),
    ),
    "PoolFormer": (
        "PoolFormerForImageClassification",
        dict(num_labels=5, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
        image(64),
    ),
}  # fmt: skip


def build(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The model in evaluation mode and its keyword arguments."""
    import transformers

    model_class, config, inputs = MODELS[name]
    model = getattr(transformers, model_class)(getattr(transformers, f"{name}Config")(**config)).eval()
    wake(model)
    return model, inputs()


def wake(model: torch.nn.Module) -> None:
    """Give parameters that start at zero a value: a zero output layer agrees with anything."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() and not bool(parameter.any()):
                parameter.normal_(0, 0.05)
