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


def test_many_eager_operators_are_one_line_that_counts_them(at_once, capfd):
    x = torch.ones(3, device="tpu")
    for length in (41, 42, 43):
        x.expand(length, 3).sin()
    progress.operators.end()
    shown = capfd.readouterr().err
    assert shown.startswith("\rtpu_dynamo: compiling eager operators: 1 so far ...\rtpu_dynamo: ")
    assert "operators: 3 so far ... done in " in shown
    assert shown.count("\n") == 1


def test_a_line_of_operators_ends_by_itself_and_before_that_of_a_graph(at_once, capfd, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(progress, "_PAUSE", 0.01)
    burst = progress.Burst()
    monkeypatch.setattr(burst, "end", lambda: (progress.Burst.end(burst), ended.set()))
    with burst.compiling():
        pass
    assert ended.wait(60)
    monkeypatch.setattr(progress, "_PAUSE", 1000.0)
    with progress.operators.compiling():
        pass
    torch.compile(double_and_add, backend="tpu")(torch.ones(4))
    first, second, third = capfd.readouterr().err.rstrip().split("\n")
    assert "operators: 1 so far ... done in " in first
    assert " done in " in second and "graph of double_and_add" in third


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
