"""docs/ecosystem.md says what the tests of this folder show, and no more."""

from __future__ import annotations

from .page import parts, shown, table
from .record import recorded


def test_the_table_is_what_the_marked_tests_give():
    assert parts()[1] == table(), "python -m tests.ecosystem.page writes it"


def test_every_marked_test_has_passed_and_every_record_is_of_one():
    assert {each.test for each in shown()} == set(recorded()), (
        "python -m pytest -p tests.ecosystem.record ... records it"
    )
