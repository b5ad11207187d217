"""tpu_dynamo.precompile: models whose compiled frames are stored, so that later processes do not trace them."""

from .precompile import Precompiled, precompile

__all__ = ["Precompiled", "precompile"]
