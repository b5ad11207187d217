"""The error for what a decoding loop cannot do."""

from __future__ import annotations


class DecodingRefused(NotImplementedError):
    """A model, or a step, cannot be repeated by one program; the message says why and what can be done instead."""
