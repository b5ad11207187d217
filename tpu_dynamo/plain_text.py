"""Text that rich prints, without styles."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console


def plain_text(show: Callable[[Console], None], width: int) -> str:
    """Return what `show` prints on a console of this width, without styles.

    Whether it is a terminal is not left to rich: in a notebook it would show the text and write none, with FORCE_COLOR
    it would write styles.
    """
    kept = io.StringIO()
    show(
        Console(
            file=kept,
            width=width,
            force_jupyter=False,
            force_terminal=False,
            no_color=True,
            highlight=False,
            legacy_windows=False,
        )
    )
    return kept.getvalue()
