"""Run tests in a random order, which finds what one test leaves to another.

python -m pytest -p tests.random_order --seed 3 tests/device
"""

from __future__ import annotations

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the order's seed."""
    parser.addoption("--seed", type=int, required=True, help="the seed of the tests' order")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the tests of this run, across files too."""
    random.Random(config.getoption("--seed")).shuffle(items)


def pytest_report_header(config: pytest.Config) -> str:
    """Return the line that says how to get this order again."""
    return f"random order: --seed {config.getoption('--seed')}"
