"""Files of profiles: written in the form that the name's end says, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .model import Profile, profile_of


class Unreadable(ValueError):
    """A file that is no profile."""


def save(path: Path, profile: Profile, xspace: bytes = b"") -> Path:
    """Write a profile; return the path. xspace: of PJRT's profiler. Raises ValueError for an end that means nothing."""
    from .views.chrome import as_trace
    from .views.page import as_html
    from .views.terminal import as_text

    forms: dict[str, Callable[[], str]] = {
        ".html": lambda: as_html(profile),
        ".txt": lambda: as_text(profile),
        ".trace.json": lambda: json.dumps(as_trace(profile)),
        ".json": lambda: json.dumps(profile.as_dict()),
    }
    if path.name.endswith(".xplane.pb"):
        if not xspace:
            raise ValueError(f"{path}: PJRT recorded no trace of this run")
        path.write_bytes(xspace)
        return path
    for end, write in forms.items():
        if path.name.endswith(end):
            path.write_text(write(), encoding="utf-8")
            return path
    raise ValueError(f"{path}: a profile is written as {', '.join(forms)} or .xplane.pb")


def read_profile(path: Path) -> Profile:
    """Read a profile from a `.json` that `save` wrote. Raises Unreadable."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return profile_of(data)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Unreadable(f"{path} is no profile that this version wrote as .json") from None
