"""The doctor's one door to PyTorch's private APIs: the table of Dynamo's backends."""

from __future__ import annotations

from torch._dynamo.backends.registry import lookup_backend

__all__ = ["lookup_backend"]
