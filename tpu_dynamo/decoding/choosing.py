"""The choice of the next token from a step's scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """The way to choose the next token, and which tokens end a sequence.

    sampled: drawn, rather than the likeliest. temperature, top_k, top_p: as in transformers' `generate`, in this order;
    None leaves all tokens in. ends: the tokens that end a sequence. padding: what an ended sequence goes on with.
    """

    sampled: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    ends: tuple[int, ...] = ()
    padding: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no distribution has."""
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} is not above 0\n  try: do_sample=False for the likeliest")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} leaves no token\n  try: top_k=None for all of them")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} is no share of the probability, between 0 and 1")

    def tokens(self, scores: Tensor) -> Tensor:
        """Return the next token of each sequence, int64[batch]; scores: float[batch, vocabulary]."""
        if not self.sampled:
            return scores.argmax(-1)
        scores = scores.float() / self.temperature
        if self.top_k is not None:
            least = scores.topk(min(self.top_k, scores.shape[-1])).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            ordered, places = scores.sort(descending=True, stable=True)
            probabilities = ordered.softmax(-1)
            # Those before a token have the share already; the first has none before it, and stays.
            unwanted = probabilities.cumsum(-1) - probabilities >= self.top_p
            scores = scores.masked_fill(unwanted.scatter(1, places, unwanted), -torch.inf)
        return torch.multinomial(scores.softmax(-1), 1)[:, 0]

    def ended(self, tokens: Tensor) -> Tensor:
        """Return which tokens end their sequences, bool[batch]."""
        ended = torch.zeros_like(tokens, dtype=torch.bool)
        for end in self.ends:
            ended = ended | (tokens == end)
        return ended
