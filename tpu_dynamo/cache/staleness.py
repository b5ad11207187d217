"""Stale entries: those that no process of this installation on this machine can find any more, and why.

A program is found by its versions and by the code that lowers, an executable by the versions and the machine that it
was compiled with. What a process may choose, such as flags or the CPUs that it runs on, makes nothing stale. Nor does
what is not known here: the versions of platforms other than the CPU, which are not opened for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tpu_dynamo_runtime import PLATFORMS, Environment, client
from tpu_dynamo_runtime.environment import compile_environment

from ..options import Options
from .differences import differences
from .entries import EXECUTABLE, PROGRAM, Described
from .executables import executable_key
from .signature import key_of, keyed_options, surroundings

# Parts of an environment that belong to a process or to its options, and those that only an open PJRT client knows.
_CHOSEN = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "xla_flags", "devices", "CPUs")
_OF_CLIENT = ("platform version", "device")


class Present:
    """The versions and environments of this process, against which entries are judged.

    PJRT's CPU client is opened when it is first needed.
    """

    def reasons(self, entry: Described) -> list[str] | None:
        """Return why an entry is stale, as differences; empty where it is not, None where that cannot be known."""
        key_parts, environment = entry.metadata.get("key_parts"), entry.metadata.get("environment")
        if entry.entry.kind == PROGRAM and isinstance(key_parts, Mapping):
            return self._of_program(entry.entry.key, key_parts)
        if entry.entry.kind == EXECUTABLE and isinstance(environment, Mapping) and entry.program is not None:
            return self._of_executable(entry.entry.key, entry.program, environment)
        return None

    def _of_program(self, key: str, key_parts: Mapping[str, Any]) -> list[str]:
        was = {name: key_parts.get(name) for name in self._surroundings}
        found = differences(was, self._surroundings)
        options = key_parts.get("options")
        if not isinstance(options, Mapping) or options.keys() != self._options.keys():
            found.append("it was made with other options than there are now")
        if not found and key_of(key_parts) != key:
            found.append("its key was made in another way")
        return found

    def _of_executable(self, key: str, program: str, environment: Environment) -> list[str] | None:
        platform = environment.get("platform")
        if not isinstance(platform, str) or platform not in PLATFORMS:
            return None
        now = self._environment(platform)
        known = [name for name in environment if name not in _CHOSEN and (platform == "cpu" or name in now)]
        found = differences({name: environment[name] for name in known}, {name: now.get(name) for name in known})
        if not found and executable_key(program, environment) != key:
            found.append("its key was made in another way")
        return found

    @cached_property
    def _surroundings(self) -> dict[str, Any]:
        return surroundings()

    @cached_property
    def _options(self) -> dict[str, Any]:
        return keyed_options(Options())

    @cached_property
    def _cpu(self) -> Environment:
        return client("cpu").environment

    def _environment(self, platform: str) -> Environment:
        if platform == "cpu":
            return self._cpu
        # Opening a TPU would take it from whoever uses it.
        parts = compile_environment(platform, "", "", 0)
        return {name: value for name, value in parts.items() if name not in _OF_CLIENT}
