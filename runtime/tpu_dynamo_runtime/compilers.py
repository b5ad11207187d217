"""Compiling ahead of time: for a topology in a process of its own, for a platform of this machine in this one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from .clients import client
from .compilation import Compilation
from .job import Span
from .pjrt import Client, XlaRuntimeError
from .topologies import find_topology
from .topology_compiler import CompileError, TopologyCompiler
from .xla_flags import XlaFlags


class Compiler(Protocol):
    """Makes executables of programs for one platform without running them."""

    platform: str
    fast_memory: int | None

    def compile(self, stablehlo: bytes, flags: XlaFlags = (), span: Span = (), *, explain: bool = False) -> Compilation:
        """Compile MLIR bytecode with one `@main`, for one device or for those of the ranks in `span`.

        explain: return where its values lie, if need be instead of an executable. Raises DoesNotFit, FlagRefused,
        CompileError and JobError.
        """
        ...


class ClientCompiler:
    """Compiles for the device of a PJRT client."""

    def __init__(self, client: Client):
        self.platform = client.platform
        self.fast_memory = client.fast_memory
        self._client = client

    def compile(self, stablehlo: bytes, flags: XlaFlags = (), span: Span = (), *, explain: bool = False) -> Compilation:
        """Compile MLIR bytecode with one `@main`, for one device or for those of the ranks in `span`.

        explain: return where its values lie, of a plugin's program instead of an executable. Raises DoesNotFit,
        FlagRefused, CompileError and JobError.
        """
        try:
            if explain and self.platform != "cpu":
                return self._client.examine(*self._client.compile_explained(stablehlo, flags, span))
            return self._client.examine(self._client.compile(stablehlo, flags, span))
        except XlaRuntimeError as error:
            raise self._client.does_not_fit(stablehlo, flags, span, error) or CompileError(str(error)) from error


@contextlib.contextmanager
def open_compiler(target: str) -> Iterator[Compiler]:
    """Open the compiler for a topology or a platform. Raises UnknownTarget and PlatformUnavailable."""
    topology = find_topology(target)
    if topology is None:
        yield ClientCompiler(client(target))
    else:
        with TopologyCompiler(topology) as compiler:
            yield compiler
