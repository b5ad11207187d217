"""Arguments of attention besides its tensors: which keys a query sees, and a bound of its scores."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

Unseen = Literal["zero", "nan", "mean"]


class Seen(NamedTuple):
    """The keys that a query sees by their numbers and by segments, and a bound of its scores.

    Query i sees keys from i - left to i + right, without a bound on a side where that is None. query_segments,
    key_segments: None, or int[batch, queries] and int[batch, keys]: it sees keys of its own segment only. cap: scores
    become cap * tanh(scores / cap), before anything is masked. unseen: what a row that sees nothing becomes:
    zero; or what softmax makes of it, nan where -inf hides, and the mean of all values where the least number does.
    """

    left: int | None = None
    right: int | None = None
    query_segments: Array | None = None
    key_segments: Array | None = None
    cap: float | None = None
    unseen: Unseen = "zero"

    @property
    def nothing(self) -> float:
        """The value of the output, and of its denominator's log, in a row that sees nothing and is no mean."""
        return math.nan if self.unseen == "nan" else 0.0

    def hidden(self, dtype: Any) -> float:
        """Return the score of what is hidden."""
        return float(jnp.finfo(dtype).min) if self.unseen == "mean" else -math.inf

    def causal(self) -> Seen:
        """Return the same without the keys after a query's own, as `is_causal` aligns them: at the top left."""
        return self._replace(right=0 if self.right is None else min(self.right, 0))

    def band(self, queries: Array, keys: Array) -> Array | None:
        """Tell, of numbers of queries and keys that broadcast together, who sees whom; None where all see all."""
        found = None
        if self.left is not None:
            found = keys >= queries - self.left
        if self.right is not None:
            upper = keys <= queries + self.right
            found = upper if found is None else found & upper
        return found

    def hides_none(self, queries: int, keys: int) -> bool:
        """Tell whether it is sure that each query sees a key."""
        if self.query_segments is not None:
            return False
        first_sees = self.right is None or self.right >= 0
        not_empty = self.left is None or self.right is None or self.left + self.right >= 0
        return first_sees and not_empty and (self.left is None or queries - 1 - self.left < keys)

    def capped(self, scores: Array) -> Array:
        """Return the scores within the cap."""
        return scores if self.cap is None else jnp.tanh(scores / self.cap) * self.cap

    def part(self, queries: slice, keys: slice) -> Seen:
        """Return the same with the segments of some queries and keys, whose numbers stay what they are."""
        if self.query_segments is None or self.key_segments is None:
            return self
        return self._replace(query_segments=self.query_segments[:, queries], key_segments=self.key_segments[:, keys])


ALL = Seen()


def of_key_mask(mask: Array, queries: int, seen: Seen) -> Seen:
    """Return `seen` with a mask of keys alone as segments: keys that it hides are of a segment without queries.

    mask: bool[..., 1, keys] with at most a batch before.
    """
    keys = mask.reshape(-1, mask.shape[-1]).astype(jnp.int32)
    return seen._replace(query_segments=jnp.ones((len(keys), queries), jnp.int32), key_segments=keys)
