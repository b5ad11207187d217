"""Environment variables that have an effect, and misspelt ones that have none."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

from tpu_dynamo.formatting import parse_bytes
from tpu_dynamo_runtime import TARGETS

from .check import Check

GROUP = "Environment"

_OURS = {
    "TPU_DYNAMO_CACHE": ("", "0", "1", "on", "off", "true", "false", "read_only"),
    "TPU_DYNAMO_CACHE_DIR": None,
    "TPU_DYNAMO_CACHE_MAX_BYTES": None,
    "TPU_DYNAMO_CACHE_REMOTE": None,
    "TPU_DYNAMO_PROGRESS": ("", "0", "1", "on", "off", "true", "false"),
    "TPU_DYNAMO_TARGET": ("", *TARGETS),
}
# What a value that means nothing does, and the values that mean something.
_MEANINGLESS = {
    "TPU_DYNAMO_CACHE": ("the cache is off", "on, off or read_only"),
    "TPU_DYNAMO_PROGRESS": ("as if it was not set", "on or off"),
    "TPU_DYNAMO_TARGET": ("what asks for the target auto is refused", ", ".join(TARGETS)),
}
# Switches that make torch.compile do nothing.
_OFF = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
_LISTED = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "TPU_LIBRARY_PATH",
    "TPU_VISIBLE_CHIPS",
    "TPU_CHIPS_PER_PROCESS_BOUNDS",
    "PJRT_DEVICE",
    "TORCH_LOGS",
    "TORCH_TRACE",
    "TORCH_DEVICE_BACKEND_AUTOLOAD",
    "TORCHINDUCTOR_CACHE_DIR",
    "OMP_NUM_THREADS",
)


def checks() -> Iterator[Check]:
    """Check the variables that are set."""
    found = 0
    for name, value in sorted(os.environ.items()):
        check = _check(name, value)
        if check is not None:
            found += 1
            yield check
    if not found:
        yield Check(GROUP, "variables", "ok", "none that matters is set")


def _check(name: str, value: str) -> Check | None:
    facts = {"value": value}
    if name in _OFF and value not in ("", "0"):
        found = f"{value}: torch.compile compiles nothing and runs everything in eager PyTorch"
        return Check(GROUP, name, "warning", found, f"unset {name}", facts)
    if name.startswith("TPU_DYNAMO_"):
        return _ours(name, value, facts)
    if name == "JAX_PLATFORMS" and value:
        return Check(
            GROUP, name, "note", f"{value}: other platforms are hidden from JAX, and a TPU from us", facts=facts
        )
    if name in _LISTED or name.startswith("JAX_"):
        return Check(GROUP, name, "note", value, facts=facts)
    return None


def _ours(name: str, value: str, facts: dict[str, str]) -> Check:
    if name not in _OURS:
        close = difflib.get_close_matches(name, _OURS, n=1)
        advice = f"did you mean {close[0]}?" if close else f"unset it; there are {', '.join(_OURS)}"
        return Check(GROUP, name, "warning", f"{value}: no such variable is read", advice, facts)
    known = _OURS[name]
    if known is not None and value.strip().lower() not in known:
        effect, values = _MEANINGLESS[name]
        return Check(GROUP, name, "warning", f"{value!r} means nothing: {effect}", values, facts)
    if name == "TPU_DYNAMO_CACHE_MAX_BYTES" and value.strip():
        try:
            parse_bytes(value)
        except ValueError as error:
            return Check(GROUP, name, "warning", f"{error}, so that it is 10 GiB", "a size such as 20GiB", facts)
    return Check(GROUP, name, "note", value, facts=facts)
