"""tpu_dynamo.precompile: a model whose compiled frame is kept, so that a later process does not trace it."""

from .precompile import Precompiled, precompile

__all__ = ["Precompiled", "precompile"]
