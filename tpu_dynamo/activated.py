"""The environment in which users' commands run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def activated(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which `python` and scripts such as `torchrun` are those of this environment.

    As after activating it: its folder of programs comes first on PATH, so that `python train.py` finds this package.
    """
    programs = os.path.dirname(sys.executable)
    path = environment.get("PATH", os.defpath)
    return {**environment, "PATH": programs + os.pathsep + path if path else programs}
