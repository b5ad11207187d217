"""The compile environment: everything besides the program that decides what executable XLA makes, as named parts."""

from __future__ import annotations

import os
import platform as host
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

# Parts by name; a list is a set of things of which some come and go.
Environment = Mapping[str, str | list[str]]

_PACKAGES = {
    "cpu": (),
    "tpu": ("libtpu",),
    "cuda": ("jax-cuda13-plugin", "jax-cuda13-pjrt", "jax-cuda12-plugin", "jax-cuda12-pjrt"),
}
_FLAGS = {"tpu": ("XLA_FLAGS", "LIBTPU_INIT_ARGS"), "cuda": ("XLA_FLAGS",), "cpu": ("XLA_FLAGS",)}

# Flags that only write or print what happens. Every other one is part of the key: one too many costs a compilation.
_OUTPUT_FLAGS = ("--xla_dump_", "--xla_gpu_dump_", "--xla_log_", "--xla_detailed_logging", "--xla_hlo_profile")


def compile_environment(platform: str, platform_version: str, device_kind: str, devices: int) -> Environment:
    """Return the key parts for a PJRT client, read from the process's environment now.

    platform: `cpu`, `cuda` or `tpu`. platform_version: PJRT's description of its build.
    devices: the number of the client's devices.
    """
    parts: dict[str, str | list[str]] = {
        "platform": platform,
        "platform version": platform_version,
        "device": device_kind,
        "devices": str(devices),
    }
    for package in ("jaxlib", *_PACKAGES[platform]):
        if (version := _version(package)) is not None:
            parts[package] = version
    if platform == "cpu":
        # XLA compiles for the features of this CPU, and cuts loops for the threads that it can have.
        parts["machine"] = host.machine()
        parts["CPU"] = " ".join(_cpuinfo("model name", "cpu part")) or host.processor()
        parts["CPU features"] = sorted(_cpuinfo("flags", "features"))
        parts["CPUs"] = str(_cpus())
    for variable in _FLAGS[platform]:
        parts[variable] = flags(os.environ.get(variable, ""))
    return parts


def flags(value: str) -> list[str]:
    """Return the flags in XLA_FLAGS or LIBTPU_INIT_ARGS, sorted by name, without those that only print or dump.

    A value that begins with no dash names a file of flags, as XLA has it.
    """
    value = value.strip()
    if value and not value.startswith("-"):
        try:
            value = Path(value).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return [value]
    try:
        found = shlex.split(value)
    except ValueError:  # an open quote
        found = value.split()
    # Of a flag that comes twice the last one counts, so their order stays.
    return sorted((f for f in found if not f.startswith(_OUTPUT_FLAGS)), key=lambda flag: flag.partition("=")[0])


def _cpuinfo(*names: str) -> list[str]:
    """Return the words of /proc/cpuinfo for the first CPU under one of these names; none if there is no such line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            return list(dict.fromkeys(value.split()))
    return []


def _cpus() -> int:
    # Not every system tells which CPUs a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
