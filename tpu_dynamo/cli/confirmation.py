"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import sys

import typer

from .console import say
from .exit_codes import ExitCode, end, refuse


def confirm(question: str, yes: bool) -> None:
    """Return if `yes`, or if the person at the terminal agrees, else exit. Refuses where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        refuse(f"{question} There is nobody to ask here: say --yes")
    if not typer.confirm(question, err=True):
        say("nothing was done")
        end(ExitCode.INCOMPLETE)
