"""StableHLO program to executable, and running it on tensors; knows no FX."""

from .client import (
    Buffer,
    Client,
    LoadedExecutable,
    XlaRuntimeError,
    client,
    execute,
    reset_clients,
    tpu_chips,
)
from .environment import Environment, flags
from .executable import Executable
from .operands import Operand
from .pool import Entry, Load, Pool
from .targets import PLATFORMS, TARGETS, PlatformUnavailable, UnknownTarget, plugin_installed, resolve
from .traffic import Traffic
from .transfer import Copying

__all__ = [
    "PLATFORMS",
    "TARGETS",
    "Buffer",
    "Client",
    "Copying",
    "Entry",
    "Environment",
    "Executable",
    "Load",
    "LoadedExecutable",
    "Operand",
    "PlatformUnavailable",
    "Pool",
    "Traffic",
    "UnknownTarget",
    "XlaRuntimeError",
    "client",
    "execute",
    "flags",
    "plugin_installed",
    "reset_clients",
    "resolve",
    "tpu_chips",
]
