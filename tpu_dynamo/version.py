"""The version of tpu-dynamo that is installed, and those of the packages that it depends on."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

__version__ = metadata.version("tpu-dynamo")

_PACKAGES = ("torch", "torch-mlir", "jax", "jaxlib", "libtpu", "numpy", "tpu-dynamo")


def versions() -> dict[str, str]:
    """Return the versions that decide how a graph is compiled, by package, with Python's and the machine's type.

    They are read once in a process (about 10 ms), whose modules do not change with what is installed later.
    """
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    """Read the versions of the installed packages from their metadata."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
