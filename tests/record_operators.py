"""A pytest plugin that records which operators the passing tests of each file lower, for docs/ops.md.

    python -m pytest -n 2 -p tests.record_operators [FILE...]

Writes tests/lowered_operators.json: a sorted list of operators for each test file. A run of some files replaces the
lists of those. Tests that lower in processes of their own are not seen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
RECORD = TESTS / "lowered_operators.json"

Operators = dict[str, list[str]]


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record; refuses to run parts of files, whose lists would lose the rest."""
    if config.option.keyword or any("::" in argument for argument in config.args):
        raise pytest.UsageError("operators are recorded for whole files: give no -k and no file::test")
    config.pluginmanager.register(Recorder(config))


class Recorder:
    """The operators that were lowered so far, by test file."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.found: defaultdict[str, set[str]] = defaultdict(set)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch one test, and keep what it lowered if it passes."""
        from tpu_dynamo_lowering.expand import watching  # not before pytest has set up the handling of warnings

        kept = self.found[item.path.relative_to(TESTS).as_posix()]
        seen: set[str] = set()

        def watch(node: Any, chosen: Any) -> None:
            # None is torch's own decomposition, which docs/ops.md does not list; nor does it operators of the tests.
            if chosen is not None and not (name := operator_name(node, chosen)).startswith("tpu_dynamo_tests::"):
                seen.add(name)

        with watching(watch):
            result = yield
        kept |= seen
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of pytest-xdist has recorded."""
        for file, operators in getattr(node, "workeroutput", {}).get("operators", {}).items():
            self.found[file].update(operators)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Hand the operators to the main process, or write them there, unless the run was cut short."""
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["operators"] = {file: sorted(names) for file, names in self.found.items()}
        elif exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            text = json.dumps(merged(recorded(), self.found), indent=1)
            RECORD.write_text(text + "\n", encoding="utf-8")


def operator_name(node: Any, chosen: Any) -> str:
    """Return the name by which docs/ops.md lists the operator that a node calls, given its choice of lowering."""
    return str(getattr(chosen, "overload", node.target))


def recorded() -> Operators:
    """Read the record: the operators by test file."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def merged(old: Mapping[str, list[str]], new: Mapping[str, set[str]]) -> Operators:
    """Replace the lists of an old record by those of a run, without files that are gone or that lower nothing."""
    together = {**old, **{file: sorted(operators) for file, operators in new.items()}}
    return {file: together[file] for file in sorted(together) if together[file] and (TESTS / file).exists()}
