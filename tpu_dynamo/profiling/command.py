"""Profiles of commands: run unchanged, in processes of their own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..activated import activated
from . import PROFILE_VARIABLE
from .asked import Asked, ask
from .files import read_profile, save
from .model import Profile


@dataclass(frozen=True)
class ProfiledProcess:
    """A process's profile. xspace: PJRT's trace; None where it recorded none."""

    process: int
    profile: Profile
    xspace: bytes | None


def run_profiled(
    command: Sequence[str], environment: Mapping[str, str], asked: Asked
) -> tuple[int, list[ProfiledProcess]]:
    """Run a command to its end; return its exit status and its processes' profiles, the busiest first.

    environment: all of its variables. Raises OSError when it cannot start.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-profile-") as name:
        folder = Path(name)
        ask(folder, asked)
        process = subprocess.Popen(command, env=activated({**environment, PROFILE_VARIABLE: name}))
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                # Ctrl-C goes to the command too, which decides what it does about it.
                continue
        found = []
        for file in folder.glob("[0-9]*.json"):
            trace = file.with_suffix(".xplane.pb")
            profile = replace(read_profile(file), command=tuple(command))
            found.append(ProfiledProcess(int(file.stem), profile, trace.read_bytes() if trace.exists() else None))
    return status, sorted(found, key=lambda each: -each.profile.device_seconds)


def write_all(folder: Path, profiles: Sequence[ProfiledProcess]) -> list[Path]:
    """Write all forms of profiles into a folder, which is made if missing; return the paths. Raises OSError.

    PJRT's traces lie where `xprof --logdir FOLDER` looks for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    traces = folder / "plugins" / "profile" / "run"
    shutil.rmtree(folder / "plugins", ignore_errors=True)
    written = []
    for each in profiles:
        name = "profile" if len(profiles) == 1 else f"profile-{each.process}"
        written += [save(folder / f"{name}{end}", each.profile) for end in (".html", ".json", ".trace.json")]
        if each.xspace is not None:
            traces.mkdir(parents=True, exist_ok=True)
            written.append(save(traces / f"{each.process}.xplane.pb", each.profile, each.xspace))
    return written
