"""Small decoders of transformers with random weights, whose greedy continuations are not one token again and again."""

from __future__ import annotations

from typing import Any

import torch

TEXT: dict[str, Any] = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=None,
)  # fmt: skip
NAMES = {
    "gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral", "gemma2": "Gemma2", "opt": "OPT",
    "t5": "T5", "mamba": "Mamba",
}  # fmt: skip
# Decoders with a static cache; the windows are shorter than what the tests generate.
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": dict(n_positions=512, n_embd=32, n_head=4),
    "llama": {},
    "qwen2": {},
    "mistral": dict(sliding_window=12),
    "gemma2": dict(sliding_window=12, query_pre_attn_scalar=8),
    "opt": dict(ffn_dim=48, word_embed_proj_dim=32),
}


def decoder(name: str, generation: dict[str, Any] | None = None, **more: Any) -> Any:
    """The model in evaluation mode. generation: settings of its generation_config."""
    import transformers

    kind = NAMES[name]
    config = getattr(transformers, f"{kind}Config")(**TEXT | DECODERS.get(name, {}) | more)
    suffix = {"gpt2": "LMHeadModel", "t5": "ForConditionalGeneration"}.get(name, "ForCausalLM")
    torch.manual_seed(0)
    model = getattr(transformers, kind + suffix)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    for key, value in (generation or {}).items():
        setattr(model.generation_config, key, value)
    return model
