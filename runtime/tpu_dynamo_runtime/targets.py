"""Targets: what a user asks for, and the PJRT platform that it means on this machine."""

from __future__ import annotations

import difflib
import importlib.util
import logging

log = logging.getLogger("tpu_dynamo.runtime")

PLATFORMS = ("cpu", "cuda", "tpu")
TARGETS = ("auto", *PLATFORMS)

_INSTALL = {
    "tpu": 'install the TPU plugin with: pip install "tpu-dynamo[tpu]"',
    "cuda": 'install the CUDA plugin with: pip install "jax[cuda13]"',
}
_PLUGINS = {
    "tpu": ("libtpu",),
    "cuda": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12", "jax_cuda13_plugin", "jax_cuda12_plugin"),
}


def _page(code: str) -> str:
    return f"\n  {code}: `tpu-dynamo explain {code}` says more"


class UnknownTarget(ValueError):
    """A target that is no platform."""

    code = "TPU502"

    def __init__(self, target: object):
        close = difflib.get_close_matches(str(target), TARGETS, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown target {target!r}{meant} Known targets: {', '.join(TARGETS)}{_page(self.code)}")


class PlatformUnavailable(RuntimeError):
    """A platform that this machine cannot run: its plugin or its hardware is missing."""

    code = "TPU501"

    def __init__(self, platform: str, why: str, hint: str):
        self.platform = platform
        super().__init__(f"target {platform!r} is not available: {why}\n  try: {hint}{_page(self.code)}")


def plugin_installed(platform: str) -> bool:
    """Whether the PJRT plugin of `platform` can be imported; the CPU's is part of jaxlib."""
    return platform == "cpu" or any(_found(name) for name in _PLUGINS[platform])


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def resolve(target: str, tpu_chips: int) -> str:
    """The platform that `target` means where `tpu_chips` chips are attached.

    `auto` is a TPU when there is one that its plugin can drive, else the CPU client. Raises UnknownTarget, and
    PlatformUnavailable when a plugin is missing or no TPU is attached.
    """
    if target not in TARGETS:
        raise UnknownTarget(target)
    if target == "auto":
        if tpu_chips and not plugin_installed("tpu"):
            log.warning("a TPU is attached but libtpu is not installed, so the CPU is used; %s", _INSTALL["tpu"])
        return "tpu" if tpu_chips and plugin_installed("tpu") else "cpu"
    if not plugin_installed(target):
        raise PlatformUnavailable(target, "its PJRT plugin is not installed", _INSTALL[target])
    if target == "tpu" and not tpu_chips:
        raise PlatformUnavailable("tpu", "no TPU is attached to this machine", 'options={"target": "cpu"}, or "auto"')
    return target
