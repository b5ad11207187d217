"""A pytest plugin that records with which versions of the libraries the tests of this folder have passed.

    python -m pytest -p tests.ecosystem.record -m "slow or not slow" tests/ecosystem

Writes tests/ecosystem/passed.json, from which `python -m tests.ecosystem.page` writes the table of docs/ecosystem.md:
for each test that is marked with `shows(library, works, write)` the library's version, if all its cases passed. Tests
that did not run keep their entry; one that failed or was skipped loses it.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

RECORD = Path(__file__).with_name("passed.json")

Passed = dict[str, str]


def recorded() -> Passed:
    """Read the record: a version of its library by test."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


class _Recorder:
    def __init__(self) -> None:
        self._libraries: dict[str, str] = {}
        self._passed: dict[str, bool] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            mark = item.get_closest_marker("shows")
            if mark is not None:
                self._libraries[item.nodeid] = mark.args[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid in self._libraries:
            test = _without_case(report.nodeid)
            self._passed[test] = self._passed.get(test, True) and report.passed

    def pytest_sessionfinish(self) -> None:
        passed = recorded()
        for case, library in self._libraries.items():
            test = _without_case(case)
            passed.pop(test, None)
            if self._passed.get(test):
                passed[test] = importlib.metadata.version(library)
        RECORD.write_text(json.dumps(dict(sorted(passed.items())), indent=1) + "\n", encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record; refuses to run some cases only."""
    if config.option.keyword:
        raise pytest.UsageError("versions are recorded for all cases of a test: give no -k")
    config.pluginmanager.register(_Recorder())


def _without_case(nodeid: str) -> str:
    path, _, name = nodeid.partition("::")
    return f"{Path(path).name}::{name.partition('[')[0]}"
