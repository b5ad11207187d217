"""The line on stderr for a compile that lasts."""

import threading

import pytest
import torch

from tpu_dynamo import progress


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    monkeypatch.setenv("TPU_DYNAMO_PROGRESS", "on")


def double_and_add(x):
    return x * 2 + 1


def test_a_compile_that_lasts_is_one_line_that_ends(at_once, capfd):
    torch.compile(double_and_add, backend="tpu")(torch.ones(3))
    shown = capfd.readouterr().err
    assert shown.startswith("tpu_dynamo: compiling inference graph of double_and_add (test_progress.py:")
    assert "), 2 operators for cpu ... done in " in shown
    assert shown.count("\n") == 1


def test_a_short_one_is_silent(monkeypatch, capfd):
    monkeypatch.setenv("TPU_DYNAMO_PROGRESS", "on")
    with progress.showing_progress(lambda: "compiling"):
        pass
    assert capfd.readouterr().err == ""


def test_the_line_of_one_that_fails_ends_too(at_once, capfd):
    described = threading.Event()

    def describe():
        described.set()
        return "compiling"

    with pytest.raises(ValueError), progress.showing_progress(describe):
        assert described.wait(60)
        raise ValueError
    assert capfd.readouterr().err.startswith("tpu_dynamo: compiling ... failed after ")


def test_of_several_at_once_one_has_the_line(at_once, capfd):
    described = threading.Event()

    def describe():
        described.set()
        return "first"

    with progress.showing_progress(describe):
        assert described.wait(60)
        with progress.showing_progress(lambda: "second"):
            pass
    shown = capfd.readouterr().err
    assert "first" in shown
    assert "second" not in shown


@pytest.mark.parametrize(
    ("asked", "wanted"), [("on", True), ("1", True), ("off", False), ("", False), ("maybe", False)]
)
def test_it_is_for_terminals_unless_asked(asked, wanted, monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_PROGRESS", asked)
    assert progress.progress_wanted() is wanted


def test_a_terminal_is_enough(monkeypatch):
    monkeypatch.delenv("TPU_DYNAMO_PROGRESS", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert progress.progress_wanted()
    monkeypatch.setattr("sys.stderr", None)
    assert not progress.progress_wanted()
