"""One case, from its names to its entries in the cache, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from tpu_dynamo_lowering import Unsupported, UnsupportedInput, UnsupportedOp
from tpu_dynamo_runtime import CompileError, DoesNotFit, PlatformUnavailable, UnknownTarget
from tpu_dynamo_runtime.store import default_path
from tpu_dynamo_runtime.worker_process import end_with_parent

from ..ahead_of_time.capture import Loss, capture
from ..cache.cache import Cache
from ..cache.settings import cache_settings
from ..distributed.imagined_job import check_mesh, imagined_job
from ..errors import CompilationFailed, NeedsValues
from ..options import OptionError, Options
from ..session import reset_stats, session, stats
from .cases import Case
from .commands import run_recorded
from .decorator import decoration_of
from .factories import Built, build, load
from .outcome import CaseOutcome, StageTimer
from .problems import CaseError, called
from .target_compilers import Makers
from .training_steps import warm_step
from .warming import Warmer

# Options that say where things are kept or run, which `tpu-dynamo warmup` decides.
_NOT_OPTIONS = ("target", "cache", "cache_dir", "dump_dir", "max_executables", "transfer")


def run_case(
    case: Case,
    maker_for: Makers,
    report: Callable[[str], None],
    *,
    checking: bool = False,
    push: bool = False,
    environment: Mapping[str, str] | None = None,
) -> CaseOutcome:
    """Warm one case, or check that it is warm; errors of the case become its outcome.

    maker_for: returns the compiler for a target. report: called with each stage when it begins. push: write the entries
    to the remote tier too. environment: all variables for a command.
    """
    outcome, stages = CaseOutcome(), StageTimer(report)
    reset_stats()
    session().close_caches()
    try:
        cache = _cache(checking)
        if case.command:
            _run_command(case, stages, outcome, checking, dict(environment or os.environ))
        else:
            _run_model(case, maker_for, stages, outcome, cache, checking)
        if push:
            stages("push")
            _push(cache, outcome)
    except (CaseError, PlatformUnavailable, UnknownTarget, OptionError) as error:
        environmental = isinstance(error, PlatformUnavailable)
        outcome.kind = error.kind if isinstance(error, CaseError) else "environment" if environmental else "usage"
        outcome.why = str(error)
    except NeedsValues as error:
        outcome.kind, outcome.why = "usage", f'{error}\n  or: init = "real", which runs the model on this machine'
    except (UnsupportedOp, UnsupportedInput, CompilationFailed, DoesNotFit, CompileError) as error:
        outcome.kind, outcome.why = "failed", str(error)
    stages("")
    outcome.seconds = {stage: round(seconds, 3) for stage, seconds in stages.seconds.items()}
    faults = {name: count for name, count in stats().cache_faults.items() if not (checking and name == "read_only")}
    outcome.notes += [f"cache fault {name}, {count} times" for name, count in faults.items()]
    return outcome


def _run_command(
    case: Case, stages: StageTimer, outcome: CaseOutcome, checking: bool, environment: dict[str, str]
) -> None:
    """Run a case that is a command of the user's."""
    stages("run")
    if checking:
        environment["TPU_DYNAMO_CACHE"] = "read_only"
    try:
        status, found = run_recorded(
            case.command, environment, cwd=os.path.join(*case.folders, case.cwd), preexec_fn=end_with_parent
        )
    except OSError as error:
        raise CaseError(
            f"the command {case.command[0]!r} cannot be started: {error.strerror}: {error.filename}"
        ) from error
    outcome.graphs, outcome.entries = found.graphs, found.entries
    outcome.lowerings, outcome.xla_compiles = found.lowerings, found.xla_compiles
    if status:
        raise CaseError(f"the command ended with exit status {status}: {shlex.join(case.command)}", "failed")
    if not found.graphs:
        raise CaseError(f"the command compiled no graph with this backend: {shlex.join(case.command)}", "failed")
    made = bool(found.lowerings or found.xla_compiles)
    outcome.missing = found.misses if checking and made else []
    outcome.state = "missing" if checking and made else "made" if made else "found"


def _push(cache: Cache, outcome: CaseOutcome) -> None:
    outcome.pushed = sum(cache.store.push(kind, key) for kind, key in outcome.entries)
    if outcome.pushed < len(outcome.entries):
        lost = len(outcome.entries) - outcome.pushed
        raise CaseError(f"{lost} of {len(outcome.entries)} entries were not pushed to the remote tier", "environment")


def _run_model(
    case: Case, maker_for: Makers, stages: StageTimer, outcome: CaseOutcome, cache: Cache, checking: bool
) -> None:
    stages("build")
    options = _options(case)
    maker = maker_for(case.target)
    case = dataclasses.replace(case, device=case.device or ("tpu" if maker.platform == "tpu" else "cpu"))
    warmer = Warmer(maker, options, cache, stages, checking=checking)
    # What a module sets while it is imported holds for the process, in a job as here.
    load(case.factory, case.folders)
    with _settings_kept(), _mesh(case) as mesh:
        built = build(case, mesh)
        stages("trace")
        with called(built.walks[0][:3]):
            _capture(case, built, options, warmer)
    warmed = warmer.warmed
    # Not those of stats(): on torch.device("tpu") a real model also needs programs of single operators.
    outcome.lowerings = sum(not graph.found[0] for graph in warmed.graphs)
    outcome.xla_compiles = sum(not graph.found[1] for graph in warmed.graphs)
    outcome.graphs = [dataclasses.asdict(graph) for graph in warmed.graphs]
    outcome.entries, outcome.missing = warmer.entries(), warmed.missing + warmed.uncacheable * checking
    outcome.notes += [f"runs in eager PyTorch: {name}" for name in warmed.in_eager]
    outcome.notes += [f"cannot be kept: {each}" for each in warmed.uncacheable]
    outcome.notes += [f"not padded, so that each size must be compiled: {why}" for why in warmed.not_padded]
    if warmed.unsupported:
        raise UnsupportedOp(_once(warmed.unsupported))
    if not (warmed.graphs or warmed.missing or warmed.in_eager):
        raise CaseError("no graph was captured: nothing that the model does is one that Dynamo compiles", "failed")
    everything = all(all(graph.found) for graph in warmed.graphs)
    outcome.state = "missing" if outcome.missing else "found" if everything else "made"


@contextlib.contextmanager
def _mesh(case: Case) -> Iterator[Any]:
    """Give the mesh of a case's job, of which this process is rank 0 then; None for a case without one."""
    if case.mesh is None:
        yield None
        return
    try:
        check_mesh(case.mesh, case.target)
    except ValueError as error:
        raise CaseError(str(error)) from None
    with imagined_job(case.mesh) as mesh:
        yield mesh


@contextlib.contextmanager
def _settings_kept() -> Iterator[None]:
    """Restore torch's global settings that are parts of signatures: a factory changes them for its own case alone."""
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _capture(case: Case, built: Built, options: Options, warmer: Warmer) -> None:
    if case.mode == "step":
        warm_step(case, built, warmer)
        return
    for (args, kwargs), *then in built.walks:
        capture(
            built.model,
            args,
            kwargs,
            warmer.visit,
            training=case.mode == "train",
            loss=_loss(case),
            options=options,
            device=str(case.device),
            then=then,
            dynamic=case.dynamic,
            around=_around(case),
            real=case.init == "real",
        )


def _options(case: Case) -> Options:
    for name in _NOT_OPTIONS:
        if name in case.options:
            raise CaseError(f"options: {name} does not belong here; targets and the cache are given outside of options")
    # A job's: here nothing is forbidden, and each bucket is a case.
    return dataclasses.replace(Options.parse(dict(case.options)), forbid_compile=False, compile_ahead=0)


def _cache(checking: bool) -> Cache:
    settings = cache_settings()
    # What does not exist yet cannot be only read; a check finds nothing there, and leaves it empty.
    read_only = checking and (settings.directory or default_path()).exists()
    cache = session().cache(dataclasses.replace(settings, read_only=read_only or settings.read_only))
    if cache is None:
        raise CaseError("the cache is off: TPU_DYNAMO_CACHE says so, and there is nothing to warm", "environment")
    if cache.store.directory is None:
        raise CaseError("the cache's directory cannot be used; `tpu-dynamo doctor` says why", "environment")
    if not checking and not cache.store.may_write():
        raise CaseError("nothing can be written into the cache: it is only read", "environment")
    return cache


def _loss(case: Case) -> Loss | None:
    if case.loss is not None:
        return load(case.loss, case.folders)
    decoration = decoration_of(load(case.factory, case.folders))
    return decoration.loss if decoration is not None else None


def _around(case: Case) -> Callable[[], AbstractContextManager[Any]]:
    if case.autocast is None:
        return contextlib.nullcontext
    return partial(torch.autocast, str(case.device), dtype=getattr(torch, case.autocast))


def _once(problems: list[Unsupported]) -> list[Unsupported]:
    return list({str(problem): problem for problem in problems}.values())
