"""Targets: what a user asks for, and the PJRT platform that it means on this machine."""

from __future__ import annotations

import difflib
import importlib.util
import logging
import os

from .topologies import TOPOLOGIES, find_topology

log = logging.getLogger("tpu_dynamo.runtime")

PLATFORMS = ("cpu", "cuda", "tpu")
TARGETS = ("auto", *PLATFORMS)

# The environment variable that says what `auto` is.
VARIABLE = "TPU_DYNAMO_TARGET"

_INSTALL = {
    "tpu": 'install the TPU plugin with: pip install "tpu-dynamo[tpu]"',
    "cuda": 'install the CUDA plugin with: pip install "jax[cuda13]"',
}
_PLUGINS = {
    "tpu": ("libtpu",),
    "cuda": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12", "jax_cuda13_plugin", "jax_cuda12_plugin"),
}


def page_of(code: str) -> str:
    """Return the last line of a message whose error has a page."""
    return f"\n  {code}: `tpu-dynamo explain {code}` says more"


class UnknownTarget(ValueError):
    """A target that is neither a platform nor a topology."""

    code = "TPU502"

    def __init__(self, target: object):
        known, given = (*TARGETS, *TOPOLOGIES), str(target).lower()
        longer = [name for name in known if given and name.startswith(given)]
        close = difflib.get_close_matches(given, known, n=1) or longer
        meant = f"; did you mean {close[0]!r}?" if close else "."
        chips: dict[str, list[str]] = {}
        for name in TOPOLOGIES:
            chips.setdefault(name.partition(":")[0], []).append(name)
        listed = "\n".join(f"    {', '.join(names)}" for names in chips.values())
        super().__init__(
            f"unknown target {target!r}{meant} Known targets: {', '.join(TARGETS)}\n"
            f"  and, to compile for without having one:\n{listed}\n"
            "    of v4, v5p and tpu7x also larger ones in multiples of 4, the smallest first, as v5p:8x16x16"
            f"{page_of(self.code)}"
        )


class CompileOnlyTarget(ValueError):
    """A topology where something that runs was asked for."""

    code = "TPU505"

    def __init__(self, target: str):
        super().__init__(
            f"target {target!r} is compile-only: it names chips to compile for, and nothing can run on it here\n"
            f'  try: tpu_dynamo.compile_for(model, args, target="{target}"), which gives the executable and its cost;\n'
            f'  to run, options={{"target": "auto"}}, which is a TPU where one is attached{page_of(self.code)}'
        )


class PlatformUnavailable(RuntimeError):
    """A platform that this machine cannot run: its plugin or its hardware is missing."""

    code = "TPU501"

    def __init__(self, platform: str, why: str, hint: str):
        self.platform = platform
        super().__init__(f"target {platform!r} is not available: {why}\n  try: {hint}{page_of(self.code)}")


def require_plugin(platform: str) -> None:
    """Raise PlatformUnavailable, saying how to install it, where the PJRT plugin of `platform` is missing."""
    if not plugin_installed(platform):
        raise PlatformUnavailable(platform, "its PJRT plugin is not installed", _INSTALL[platform])


def plugin_installed(platform: str) -> bool:
    """Return True if the PJRT plugin of `platform` can be imported; the CPU's is part of jaxlib."""
    return platform == "cpu" or any(_found(name) for name in _PLUGINS[platform])


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def resolve(target: str, tpu_chips: int) -> str:
    """Return the platform that `target` means where `tpu_chips` chips are attached.

    `auto` is what TPU_DYNAMO_TARGET says; without it a TPU when there is one that its plugin can drive, else the CPU
    client. Raises UnknownTarget, and PlatformUnavailable when a plugin is missing or no TPU is attached, and
    CompileOnlyTarget for a topology.
    """
    if target == "auto":
        target = os.environ.get(VARIABLE, "").strip() or target
    if target not in TARGETS:
        raise CompileOnlyTarget(target) if find_topology(target) is not None else UnknownTarget(target)
    if target == "auto":
        if tpu_chips and not plugin_installed("tpu"):
            log.warning("a TPU is attached but libtpu is not installed, so the CPU is used; %s", _INSTALL["tpu"])
        return "tpu" if tpu_chips and plugin_installed("tpu") else "cpu"
    require_plugin(target)
    if target == "tpu" and not tpu_chips:
        raise PlatformUnavailable("tpu", "no TPU is attached to this machine", 'options={"target": "cpu"}, or "auto"')
    return target
