"""Decoder models of transformers as steps of a decoding loop, with a static cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .refusal import DecodingRefused

# What changes the scores beyond the choice of a token, in transformers' generation_config, and the values that do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "stop_strings": (None,),
    "penalty_alpha": (None,),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "remove_invalid_values": (None, False),
    "renormalize_logits": (None, False),
}


class CachedModel:
    """A decoder of transformers: its scores for new tokens after those in its cache.

    Raises DecodingRefused for a model that has no static cache, or wants more than the choice of a token.
    """

    def __init__(self, model: Any):
        if getattr(model.config, "is_encoder_decoder", False):
            raise _refused(model, "it has an encoder, and the loop knows decoders alone")
        parameters = inspect.signature(model.forward).parameters
        names = [name for name in ("cache", "past_key_values") if name in parameters]
        if not names:
            raise _refused(model, "its forward takes no cache")
        self._cache_name = names[0]
        self._places = "position_ids" in parameters
        self._at = "logits_to_keep" in parameters
        self._config = model.generation_config
        for name, neutral in _NEUTRAL.items():
            if (value := getattr(self._config, name, None)) not in neutral:
                raise _refused(model, f"its generation_config has {name}={value!r}, which the loop does not know")
        self.cache(model, 1)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own configuration."""
        given = self._config.eos_token_id
        return () if given is None else tuple(given) if isinstance(given, list | tuple) else (int(given),)

    @property
    def padding(self) -> int | None:
        """The token after the end of a sequence by the model's own configuration."""
        return self._config.pad_token_id

    def cache(self, model: Any, length: int) -> Any:
        """Return an empty cache for `length` tokens; layers with a sliding window keep all tokens, behind their mask.

        A layer that keeps the window alone counts its tokens in Python, which a loop in one program cannot.
        """
        from transformers import StaticCache
        from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

        try:
            cache = StaticCache(config=model.config, max_cache_len=length)
        except (KeyError, AttributeError, TypeError, ValueError) as why:
            raise _refused(model, f"transformers makes no static cache for it ({why})") from why
        for i, layer in enumerate(cache.layers):
            if type(layer) is StaticSlidingWindowLayer:
                whole: Any = StaticLayer(max_cache_len=length)
                whole.is_sliding = True
                cache.layers[i] = whole
            elif type(layer) is not StaticLayer:
                raise _refused(model, f"its cache has a layer {type(layer).__name__}, whose state is no tensor")
        return cache

    def first(self, model: Any, tokens: Tensor, last: Tensor, cache: Any, mask: Tensor) -> Tensor:
        """Return the scores after the token at place `last` of a prompt, and let the cache end there.

        tokens: int64[batch, at least last + 1]. mask: int64[batch, cache's length], 0 for padding before prompts.
        """
        places = (mask[:, : tokens.shape[1]].cumsum(-1) - 1).clamp(min=0)
        scores = self._scores(model, tokens, places, cache, mask, last.view(1))
        for layer in cache.layers:
            layer.cumulative_length.copy_(last + 1)
        return scores

    def next(self, model: Any, tokens: Tensor, place: Tensor, cache: Any, mask: Tensor) -> Tensor:
        """Return the scores after one more token at a place; tokens: int64[batch, 1]."""
        padding = (mask == 0).sum(-1, keepdim=True)
        return self._scores(model, tokens, place - padding, cache, mask, torch.zeros_like(place).view(1))

    def _scores(self, model: Any, tokens: Tensor, places: Tensor, cache: Any, mask: Tensor, at: Tensor) -> Tensor:
        more: dict[str, Any] = {self._cache_name: cache}
        if self._places:
            more["position_ids"] = places
        if self._at:
            more["logits_to_keep"] = at
        scores = model(tokens, attention_mask=mask, use_cache=True, return_dict=True, **more).logits
        return scores[:, 0] if self._at else scores.index_select(1, at)[:, 0]


def is_transformers(model: Callable[..., Any]) -> bool:
    """Return True for a model of transformers that generates."""
    return isinstance(model, torch.nn.Module) and hasattr(model, "generation_config") and hasattr(model, "config")


def _refused(model: Any, why: str) -> DecodingRefused:
    return DecodingRefused(
        f"decode_loop cannot decode with {type(model).__name__}: {why}\n"
        '  try: model.forward = torch.compile(model.forward, backend="tpu"), and model.generate(...)'
    )
