"""Log records of the store, kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return the list to which a test's log lines of the runtime go."""
    kept: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    log, keep = logging.getLogger("tpu_dynamo.runtime"), Keep()
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(keep)
    yield kept
    log.removeHandler(keep)
    log.setLevel(level)
