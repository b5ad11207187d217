"""docs/cli.md is what the command line says of itself, and its screens show no machine."""

from __future__ import annotations

import re

import pytest
import typer

from tests.cli.page import PAGE, SCREENS, page
from tpu_dynamo.cli import app


def test_the_page_is_what_is_generated():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.cli.page"


def test_every_verb_has_json_and_every_option_a_help():
    def verbs(command, words):
        for name, below in getattr(command, "commands", {}).items():
            if hasattr(below, "commands"):
                yield from verbs(below, [*words, name])
            else:
                yield " ".join([*words, name]), below

    for name, verb in verbs(typer.main.get_command(app), []):
        options = {option for parameter in verb.params for option in parameter.opts}
        assert "--json" in options, name
        assert [parameter.name for parameter in verb.params if not parameter.help] == [], name


@pytest.mark.parametrize("screen", sorted(SCREENS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_screen_names_no_machine_and_fits(screen):
    lines = screen.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("$ tpu-dynamo ")
    assert all(len(line) <= 100 for line in lines)
    text = "\n".join(lines)
    assert not re.findall(r"/(?:home|root|tmp|work|usr)/\S*", text)
    assert "Traceback" not in text
