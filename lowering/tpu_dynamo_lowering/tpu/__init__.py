"""Other words, for TPUs, for the StableHLO operations that XLA refuses there or compiles badly."""

from .legalise import legalise

__all__ = ["legalise"]
