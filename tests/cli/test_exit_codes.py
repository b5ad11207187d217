"""Ends of verbs: refusals, errors of ours, unexpected errors, and their exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tpu_dynamo import CompileOnlyTarget, NeedsValues, OptionError, PlatformUnavailable
from tpu_dynamo.cli.exit_codes import ExitCode, Root, refuse


def ended(error: BaseException | None, *arguments: str):
    """Return the exit code and the text for an error that a verb raises."""
    app = typer.Typer(cls=Root, pretty_exceptions_enable=False)

    @app.callback()
    def root(debug: bool = False) -> None: ...

    @app.command()
    def verb() -> None:
        if error is not None:
            raise error
        refuse("that cannot be", ExitCode.CACHE)

    return CliRunner().invoke(app, [*arguments, "verb"])


def test_a_refusal_is_one_line_and_its_code():
    done = ended(None)
    assert done.exit_code == 5
    assert done.stderr == "tpu-dynamo: that cannot be\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(PlatformUnavailable("tpu", "no TPU is attached", "another"), 3, id="environment"),
        pytest.param(CompileOnlyTarget("v5e:2x2"), 2, id="target"),
        pytest.param(OptionError("unknown option"), 2, id="option"),
        pytest.param(NeedsValues("it", None), 4, id="compilation"),
        pytest.param(KeyboardInterrupt(), 130, id="ctrl-c"),
        pytest.param(typer.Abort(), 130, id="ctrl-c-at-a-prompt"),
        pytest.param(typer.Exit(6), 6, id="exit"),
    ],
)
def test_errors_that_are_known_end_with_their_code_and_no_traceback(error, code):
    done = ended(error)
    assert done.exit_code == code
    assert "Traceback" not in done.output


def test_an_unexpected_error_says_where_its_traceback_is():
    done = ended(KeyError("lost"))
    assert done.exit_code == 70
    assert "KeyError: 'lost'" in done.stderr
    assert "Traceback" not in done.stderr
    written = Path(re.findall(r"its traceback is in (\S+)", done.stderr)[0])
    assert "Traceback (most recent call last)" in written.read_text()
    written.unlink()


def test_debug_lets_an_unexpected_error_through():
    assert isinstance(ended(KeyError("lost"), "--debug").exception, KeyError)


def test_a_wrong_command_line_is_2():
    assert ended(None, "--nonsense").exit_code == 2


def test_every_code_has_a_meaning():
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 70, 130, 141]
    assert all(code.meaning for code in ExitCode)
