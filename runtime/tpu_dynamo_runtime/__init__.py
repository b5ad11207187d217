"""StableHLO program to executable, and running it on tensors; knows no FX.

Names are imported when they are first asked for: the store needs neither torch nor jaxlib, and can be looked into
without them.
"""

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .clients import client as client
    from .clients import join_job as join_job
    from .clients import reset_clients as reset_clients
    from .communication import Communication as Communication
    from .communication import Exchange as Exchange
    from .communication import Mesh as Mesh
    from .communication import communication_of as communication_of
    from .compilation import Compilation as Compilation
    from .compilation import DoesNotFit as DoesNotFit
    from .compilation import ProgramMemory as ProgramMemory
    from .compilers import Compiler as Compiler
    from .compilers import open_compiler as open_compiler
    from .copied import CopiedExecutable as CopiedExecutable
    from .cost import Cost as Cost
    from .cost import LineCost as LineCost
    from .cost import cost_of as cost_of
    from .counting import count as count
    from .counting import form_to_count as form_to_count
    from .environment import Environment as Environment
    from .environment import flags as flags
    from .executable import Executable as Executable
    from .executable import ProgramInterface as ProgramInterface
    from .full_memory import DeviceOutOfMemory as DeviceOutOfMemory
    from .interconnect import Interconnect as Interconnect
    from .job import Job as Job
    from .job import JobError as JobError
    from .job import RankLost as RankLost
    from .job import Span as Span
    from .job import tpu_variables as tpu_variables
    from .launch import Launch as Launch
    from .launch import Result as Result
    from .notebook_tables import html_table as html_table
    from .operands import Operand as Operand
    from .operands import items_at as items_at
    from .peak import HeldValue as HeldValue
    from .peak import Peak as Peak
    from .peak import peak_of as peak_of
    from .pjrt import Buffer as Buffer
    from .pjrt import Client as Client
    from .pjrt import LoadedExecutable as LoadedExecutable
    from .pjrt import XlaRuntimeError as XlaRuntimeError
    from .pjrt import release_dropped as release_dropped
    from .pjrt import tpu_chips as tpu_chips
    from .pjrt import unknown_targets as unknown_targets
    from .pjrt_job import in_job as in_job
    from .pjrt_job import leave_job as leave_job
    from .pool import ForkedProcess as ForkedProcess
    from .pool import Load as Load
    from .pool import Pool as Pool
    from .pool import PooledProgram as PooledProgram
    from .renaming import Renaming as Renaming
    from .residents import Residents as Residents
    from .resizable import give_address as give_address
    from .shared import SharedExecutable as SharedExecutable
    from .stage_clock import StageClock as StageClock
    from .targets import PLATFORMS as PLATFORMS
    from .targets import TARGETS as TARGETS
    from .targets import CompileOnlyTarget as CompileOnlyTarget
    from .targets import PlatformUnavailable as PlatformUnavailable
    from .targets import UnknownTarget as UnknownTarget
    from .targets import plugin_installed as plugin_installed
    from .targets import resolve as resolve
    from .topologies import TOPOLOGIES as TOPOLOGIES
    from .topologies import Topology as Topology
    from .topologies import find_topology as find_topology
    from .topology_compiler import CompileError as CompileError
    from .traffic import Traffic as Traffic
    from .transfer import Copying as Copying
    from .watching import Watcher as Watcher
    from .watching import Watching as Watching
    from .watching import watched_compile as watched_compile
    from .xla_flags import FlagRefused as FlagRefused
    from .xla_flags import XlaFlags as XlaFlags
    from .xla_flags import with_flags as with_flags

_PLACES = {
    ".clients": ("client", "join_job", "reset_clients"),
    ".communication": ("Communication", "Exchange", "Mesh", "communication_of"),
    ".compilation": ("Compilation", "DoesNotFit", "ProgramMemory"),
    ".compilers": ("Compiler", "open_compiler"),
    ".copied": ("CopiedExecutable",),
    ".cost": ("Cost", "LineCost", "cost_of"),
    ".counting": ("count", "form_to_count"),
    ".environment": ("Environment", "flags"),
    ".executable": ("Executable", "ProgramInterface"),
    ".full_memory": ("DeviceOutOfMemory",),
    ".interconnect": ("Interconnect",),
    ".job": ("Job", "JobError", "RankLost", "Span", "tpu_variables"),
    ".launch": ("Launch", "Result"),
    ".notebook_tables": ("html_table",),
    ".operands": ("Operand", "items_at"),
    ".peak": ("HeldValue", "Peak", "peak_of"),
    ".pjrt": (
        "Buffer",
        "Client",
        "LoadedExecutable",
        "XlaRuntimeError",
        "release_dropped",
        "tpu_chips",
        "unknown_targets",
    ),
    ".pjrt_job": ("in_job", "leave_job"),
    ".pool": ("ForkedProcess", "Load", "Pool", "PooledProgram"),
    ".renaming": ("Renaming",),
    ".residents": ("Residents",),
    ".resizable": ("give_address",),
    ".shared": ("SharedExecutable",),
    ".stage_clock": ("StageClock",),
    ".targets": (
        "PLATFORMS",
        "TARGETS",
        "CompileOnlyTarget",
        "PlatformUnavailable",
        "UnknownTarget",
        "plugin_installed",
        "resolve",
    ),
    ".topologies": ("TOPOLOGIES", "Topology", "find_topology"),
    ".topology_compiler": ("CompileError",),
    ".traffic": ("Traffic",),
    ".transfer": ("Copying",),
    ".watching": ("Watcher", "Watching", "watched_compile"),
    ".xla_flags": ("FlagRefused", "XlaFlags", "with_flags"),
}

# Hidden from type checkers, which would otherwise let every name pass.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _PLACES)
