"""Profiling a run in this process: `with tpu_dynamo.profile() as run:`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .model import Profile
    from .recorder import Recorder
    from .recording import Recording


class ProfiledRun:
    """A run that `profile()` records or has recorded; the profile is made when it is first asked for after the run."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._recording: Recording | None = None

    def step(self) -> None:
        """Say that a step ends here. Without it, each call of the graph that steps begin with begins one."""
        self._recorder.mark()

    @property
    def recording(self) -> Recording:
        """All that was noted of the run. Raises RuntimeError inside of the `with` block."""
        if self._recording is None:
            raise RuntimeError("the profile is ready when the `with tpu_dynamo.profile()` block is left")
        return self._recording

    @cached_property
    def profile(self) -> Profile:
        """The profile, as plain data. Raises RuntimeError inside of the `with` block."""
        from .build import build_profile

        return build_profile(self.recording)

    def save(self, path: str | Path) -> Path:
        """Write the profile in the form that the name's end says; return its path.

        `.html` is a page, `.txt` the terminal's text, `.trace.json` a trace for Perfetto and Chrome, `.json` all data,
        and `.xplane.pb` what PJRT's own profiler recorded, for xprof. Raises ValueError for another, and OSError.
        """
        from .files import save

        return save(Path(path), self.profile, self.recording.xspace)

    def add_to(self, theirs: torch.profiler.profile) -> None:
        """Give a profile of torch.profiler the device's time, which its tables then show.

        theirs: has ended, and ran during all of the block. Raises ValueError for another.
        """
        from .torch_profile import add_to

        add_to(theirs, self.recording)

    def __str__(self) -> str:
        from .views.terminal import as_text

        return as_text(self.profile)

    def _repr_html_(self) -> str:
        """Return the page for a notebook, in a frame of its own, so that neither's styles reach the other."""
        if self._recording is None:
            return "<p>the profile is ready when the <code>with tpu_dynamo.profile()</code> block is left</p>"
        from html import escape

        from .views.page import as_html

        page = escape(as_html(self.profile), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 48em; border: 0" sandbox="allow-scripts"></iframe>'


@contextlib.contextmanager
def profile() -> Iterator[ProfiledRun]:
    """Record where the time goes within the block: by step, graph, operation, module and the user's line.

    Nothing is run twice, and what the program computes stays the same. The profile is there when the block is left,
    also by an exception. Raises AlreadyProfiling.
    """
    from .recorder import Recorder

    run = ProfiledRun(recorder := Recorder())
    recorder.start()
    try:
        yield run
    finally:
        run._recording = recorder.stop()
