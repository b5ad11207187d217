"""The cache's settings from the environment and the options: where it is, and what may be done with it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpu_dynamo_runtime.store import DEFAULT_MAX_BYTES

from ..formatting import parse_bytes

if TYPE_CHECKING:
    from ..options import Options

log = logging.getLogger("tpu_dynamo.cache")

_USES = {
    "": "on", "1": "on", "on": "on", "true": "on",
    "0": "off", "off": "off", "false": "off",
    "read_only": "read_only",
}  # fmt: skip


@dataclass(frozen=True)
class CacheSettings:
    """One store as it is to be used.

    directory: None for the user's cache folder. max_bytes: what its entries may take. remote: a URL that fsspec knows,
    looked into after a miss.
    """

    enabled: bool = True
    read_only: bool = False
    directory: Path | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    remote: str | None = None


def cache_settings(options: Options | None = None) -> CacheSettings:
    """Return the settings at this moment; where the environment and the options differ, the stricter counts.

    Reads TPU_DYNAMO_CACHE (`on`, `off`, `read_only`), TPU_DYNAMO_CACHE_DIR, TPU_DYNAMO_CACHE_MAX_BYTES (as `20GiB`) and
    TPU_DYNAMO_CACHE_REMOTE. Logs a warning for a value that is none of these.
    """
    use = _read("TPU_DYNAMO_CACHE", "").lower()
    if use not in _USES:
        log.warning("TPU_DYNAMO_CACHE=%r means nothing: on, off or read_only; the cache is off", use)
    use = _USES.get(use, "off")
    directory = (options.cache_dir if options else None) or _read("TPU_DYNAMO_CACHE_DIR", "")
    option = options.cache if options else True
    return CacheSettings(
        enabled=use != "off" and option is not False,
        read_only="read_only" in (use, option),
        directory=Path(directory) if directory else None,
        max_bytes=_bytes(_read("TPU_DYNAMO_CACHE_MAX_BYTES", "")),
        remote=_read("TPU_DYNAMO_CACHE_REMOTE", "") or None,
    )


def _read(variable: str, default: str) -> str:
    return os.environ.get(variable, default).strip()


def _bytes(text: str) -> int:
    if not text:
        return DEFAULT_MAX_BYTES
    try:
        return parse_bytes(text)
    except ValueError as error:
        log.warning("TPU_DYNAMO_CACHE_MAX_BYTES: %s; 10 GiB it is", error)
        return DEFAULT_MAX_BYTES
