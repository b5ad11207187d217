"""StableHLO program to executable, and running it on tensors; knows no FX."""

from .client import (
    Buffer,
    Client,
    LoadedExecutable,
    XlaRuntimeError,
    client,
    reset_clients,
    tpu_chips,
)
from .compilation import Compilation, DoesNotFit, ProgramMemory
from .compilers import Compiler, open_compiler
from .cost import Cost, LineCost, cost_of
from .environment import Environment, flags
from .executable import Executable
from .launch import Launch, Result
from .operands import Operand
from .pool import Entry, ForkedProcess, Load, Pool
from .residents import Residents
from .targets import (
    PLATFORMS,
    TARGETS,
    CompileOnlyTarget,
    PlatformUnavailable,
    UnknownTarget,
    plugin_installed,
    resolve,
)
from .topologies import TOPOLOGIES, Topology, find_topology
from .topology_compiler import CompileError
from .traffic import Traffic
from .transfer import Copying

__all__ = [
    "PLATFORMS",
    "TARGETS",
    "TOPOLOGIES",
    "Buffer",
    "Client",
    "Compilation",
    "CompileError",
    "CompileOnlyTarget",
    "Compiler",
    "Copying",
    "Cost",
    "DoesNotFit",
    "Entry",
    "Environment",
    "Executable",
    "ForkedProcess",
    "Launch",
    "LineCost",
    "Load",
    "LoadedExecutable",
    "Operand",
    "PlatformUnavailable",
    "Pool",
    "ProgramMemory",
    "Residents",
    "Result",
    "Topology",
    "Traffic",
    "UnknownTarget",
    "XlaRuntimeError",
    "client",
    "cost_of",
    "find_topology",
    "flags",
    "open_compiler",
    "plugin_installed",
    "reset_clients",
    "resolve",
    "tpu_chips",
]
