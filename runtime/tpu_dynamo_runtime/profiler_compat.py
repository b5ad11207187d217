"""The door to PJRT's own profiler: sessions, and the names that a trace shows beside what PJRT records."""

from __future__ import annotations

import contextlib
from typing import Any

from jax.profiler import StepTraceAnnotation as StepTraceAnnotation
from jax.profiler import TraceAnnotation as TraceAnnotation
from jaxlib import (
    _profiler,  # pyright: ignore[reportAttributeAccessIssue]
    xla_client,
)

from .pjrt import tpu_chips

_session: list[Any] = []


def start_profiler() -> bool:
    """Let PJRT record what its devices do, from now on; False where a session of ours or JAX's runs already.

    Also where JAX has loaded libtpu and there is no TPU: libtpu's part of a session would end the process. Devices of a
    platform are recorded if its client is there before. Python's functions are not recorded.
    """
    if _session or (xla_client.pjrt_plugin_loaded("tpu") and not tpu_chips()):
        return False
    options = _profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 1
    options.enable_hlo_proto = True
    options.raise_error_on_start_failure = True
    with contextlib.suppress(RuntimeError, ValueError):
        _session.append(_profiler.ProfilerSession(options))
    return bool(_session)


def stop_profiler() -> bytes:
    """End the session that `start_profiler` began; return what was recorded, a serialised XSpace."""
    return _session.pop().stop()
