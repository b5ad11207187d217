"""Fixtures of the tests of the TPU's forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tpu_dynamo.graph import lowering
from tpu_dynamo_lowering import lower


@pytest.fixture
def matches_eager_as_for_a_tpu(
    matches_eager: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Compare with eager what a program that is lowered for a TPU gives on the CPU."""

    def for_a_tpu(*args: Any, platform: str, **options: Any) -> Any:
        return lower(*args, platform="tpu", **options)

    monkeypatch.setattr(lowering, "lower", for_a_tpu)
    return partial(matches_eager, cache=False)
