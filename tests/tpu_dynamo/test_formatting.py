"""Sizes, times and paths: read as people write them, written as they read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu_dynamo.formatting import (
    format_age,
    format_bytes,
    format_count,
    format_duration,
    format_path,
    format_relative_path,
    parse_bytes,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1500", 1500), ("2K", 2048), ("20GiB", 20 << 30), ("20 GB", 20 << 30), ("1.5m", 3 << 19), ("7b", 7)],
    ids=str,
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1PiB", "1e9", "GiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size such as"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("7d", 604800), ("2w", 1209600)], ids=str)
def test_times_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5y", "-1d", "d"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is no time such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5000 << 30, "5,000.0 GiB")],
    ids=str,
)
def test_sizes_are_shown_in_the_unit_that_suits_them(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "just now"), (60, "1 min ago"), (7200, "2 hours ago"), (90000, "1 day ago"), (8e7, "2 years ago")],
    ids=str,
)
def test_ages_are_shown(seconds, text):
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.012, "12 ms"), (0.1, "0.1 s"), (3.24, "3.2 s"), (245, "4 min 05 s"), (7380, "2 h 03 min")],
    ids=str,
)
def test_durations_are_shown_in_the_unit_that_suits_them(seconds, text):
    assert format_duration(seconds) == text


def test_things_are_counted():
    assert [format_count(n, "entry") for n in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
    assert format_count(1234, "program") == "1,234 programs"
    assert format_count(2, "process") == "2 processes"


def test_the_home_is_a_tilde():
    assert format_path(Path.home() / ".cache" / "x") == "~/.cache/x"
    assert format_path(Path("/nowhere/x")) == "/nowhere/x"


def test_a_file_below_the_current_folder_is_relative_and_another_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert format_relative_path(str(tmp_path / "src" / "train.py")) == str(Path("src", "train.py"))
    assert format_relative_path("/nowhere/x.py") == "/nowhere/x.py"
    assert format_relative_path("<stdin>") == "<stdin>"
