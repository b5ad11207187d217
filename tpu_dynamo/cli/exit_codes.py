"""Exit codes, refusals, and the exit codes of errors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from .console import say


class ExitCode(IntEnum):
    """The exit codes of the command line, with their meanings."""

    OK = 0, "everything was done, and nothing was found"
    FINDINGS = 1, "there are findings: damaged entries, operators without a lowering, problems of the environment"
    USAGE = 2, "the command line, or the manifest that it names, is wrong"
    ENVIRONMENT = 3, "something that the verb needs is missing here or does not work"
    FAILED = 4, "a target failed to compile"
    CACHE = 5, "the cache could not be read or written, or what was to be taken in is damaged"
    INCOMPLETE = 6, "not everything that was asked for was done"
    BUG = 70, "tpu-dynamo itself failed, and says where the traceback is"
    INTERRUPTED = 130, "Ctrl-C"
    PIPE = 141, "whoever reads the output, such as `head`, had enough"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """Make a code with its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


# The exit codes of our errors that have a page in docs/errors. The others of them mean that something did not compile.
_CODES = {
    "TPU107": ExitCode.USAGE,
    "TPU501": ExitCode.ENVIRONMENT,
    "TPU502": ExitCode.USAGE,
    "TPU503": ExitCode.USAGE,
    "TPU504": ExitCode.ENVIRONMENT,
    "TPU505": ExitCode.USAGE,
}


class Refusal(Exception):
    """Something that cannot be carried out, in words for the person who asked, and the exit code."""

    def __init__(self, why: str, code: ExitCode = ExitCode.USAGE):
        super().__init__(why)
        self.code = code


def refuse(why: str, code: ExitCode = ExitCode.USAGE) -> NoReturn:
    """Say why something cannot be carried out, and exit."""
    raise Refusal(why, code)


def end(code: ExitCode) -> NoReturn:
    """Exit with a code."""
    raise typer.Exit(code)


class Root(TyperGroup):
    """The group of all verbs, which prints errors as messages and exits with their codes.

    Under `--debug` unexpected errors are raised, with their tracebacks.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that the command line names."""
        with _errors_as_exits(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextlib.contextmanager
def _errors_as_exits(debug: bool) -> Iterator[None]:
    try:
        yield
        # What is still in the buffer may find nobody to read it, which Python would tell at its very end.
        sys.stdout.flush()
    except (typer.Exit, typer.TyperException):
        raise
    except Refusal as refusal:
        say(f"tpu-dynamo: {refusal}")
        raise typer.Exit(refusal.code) from None
    except (KeyboardInterrupt, typer.Abort):
        say("tpu-dynamo: interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.PIPE) from None
    except Exception as error:
        if debug:
            raise
        code = getattr(error, "code", None)
        if isinstance(code, str) and code.startswith("TPU"):
            say(f"tpu-dynamo: {error}")
            raise typer.Exit(_CODES.get(code, ExitCode.FAILED)) from None
        say(
            f"tpu-dynamo: {type(error).__name__}: {error}\n"
            f"  this is an error in tpu-dynamo; its traceback is in {_write_traceback(error)}\n"
            "  try: attach it, and what `tpu-dynamo doctor` says, to a report; `tpu-dynamo --debug VERB …` shows it"
        )
        raise typer.Exit(ExitCode.BUG) from None


def _write_traceback(error: BaseException) -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="tpu-dynamo-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name
