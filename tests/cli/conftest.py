"""The command line's tests write into a pipe, of no width."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some runners of tests tell their workers how wide the terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)
