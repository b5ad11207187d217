"""The version of tpu-dynamo that is installed, and those of what it is made of."""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = metadata.version("tpu-dynamo")

_PACKAGES = ("torch", "torch-mlir", "jax", "jaxlib", "libtpu", "numpy", "tpu-dynamo")


def versions() -> dict[str, str]:
    """The versions that decide what a graph becomes."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
