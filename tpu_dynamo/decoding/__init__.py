"""Decoding with many steps in one executable: forward, choice of the next token, cache and stopping in a loop."""

from .decode import DecodingRefused, decode_loop

__all__ = ["DecodingRefused", "decode_loop"]
