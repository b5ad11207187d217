"""A user's step, a function of tokens and state, as a step of a decoding loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._torch_compat import pytree
from .refusal import DecodingRefused


class StatefulStep:
    """A step `scores, state = step(tokens, state)`, whose new state replaces the old one in place."""

    ends: tuple[int, ...] = ()
    padding: int | None = None

    def first(self, model: Callable[..., Any], tokens: Tensor, last: Tensor, cache: Any, mask: Tensor) -> Tensor:
        """Return the scores after a prompt, float[batch, vocabulary]."""
        return self._call(model, tokens, cache)

    def next(self, model: Callable[..., Any], tokens: Tensor, place: Tensor, cache: Any, mask: Tensor) -> Tensor:
        """Return the scores after one more token, int64[batch, 1]."""
        return self._call(model, tokens, cache)

    def _call(self, model: Callable[..., Any], tokens: Tensor, state: Any) -> Tensor:
        scores, new = model(tokens, state)
        old_leaves, new_leaves = pytree.tree_leaves(state), pytree.tree_leaves(new)
        if len(old_leaves) != len(new_leaves):
            raise DecodingRefused(f"the step takes a state of {len(old_leaves)} tensors and returns {len(new_leaves)}")
        if unfit := [type(leaf).__name__ for leaf in old_leaves if not isinstance(leaf, torch.Tensor)]:
            raise DecodingRefused(
                f"the state holds {', '.join(unfit)}, and a loop carries tensors\n  try: torch.tensor(0) for 0"
            )
        for i, (old, value) in enumerate(zip(old_leaves, new_leaves, strict=True)):
            if old.shape != value.shape or old.dtype != value.dtype:
                raise DecodingRefused(
                    f"tensor {i} of the state is {old.dtype} {tuple(old.shape)} before a step and "
                    f"{value.dtype} {tuple(value.shape)} after it: a loop's state keeps its shapes\n"
                    "  try: a state with room for all tokens, and a tensor that counts them"
                )
            if old is not value:
                old.copy_(value)
        return scores[:, -1]
