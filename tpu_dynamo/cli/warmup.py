"""`tpu-dynamo warmup`: fill the compile cache before a job starts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import print_json, results, say
from .exit_codes import ExitCode, end, refuse
from .shared_options import CacheDir, DryRun, Json, NoProgress
from .warmup_cases import Modes, cases_asked_for

if TYPE_CHECKING:
    from tpu_dynamo.warmup.scheduler import Result, WarmupRun
    from tpu_dynamo.warmup.workers import Workers


Source = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST.toml|MODULE|MODULE:FACTORY",
        help="A manifest, a function that gives (model, args), or a module with @tpu_dynamo.warmup_case functions.",
    ),
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Models or cases of this name, as bert or 'bert/train/*'.")
]
Targets = Annotated[
    list[str] | None, typer.Option(metavar="TARGET", help="As cpu or v5e:2x2, in the place of those it names.")
]
Mode = Annotated[Modes | None, typer.Option(help="In the place of those that it names.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, metavar="N", help="Worker processes; by default one for 4 CPUs.")
]
Init = Annotated[
    str, typer.Option(metavar="meta|random|real", help="How a FACTORY is called; a manifest says it itself.")
]
Remote = Annotated[
    str | None, typer.Option(metavar="URL", help="The remote tier, in the place of TPU_DYNAMO_CACHE_REMOTE.")
]
Push = Annotated[bool, typer.Option("--push", help="Write the entries to the remote tier too.")]
CheckOnly = Annotated[bool, typer.Option("--check", help="Compile nothing: say what is missing in the cache, and why.")]
Resume = Annotated[bool, typer.Option("--resume", help="Leave out cases that an earlier run finished.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going/--fail-fast", help="Whether to go on after a case that failed.")]
Timeout = Annotated[
    float | None, typer.Option(min=0.1, metavar="S", help="Seconds for a case that does not say its own.")
]
ReportFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write report.json and report.md into this folder.")
]


def warmup(
    source: Source,
    only: Only = None,
    target: Targets = None,
    mode: Mode = None,
    jobs: Jobs = None,
    init: Init = "random",
    cache_dir: CacheDir = None,
    remote: Remote = None,
    push: Push = False,
    check: CheckOnly = False,
    resume: Resume = False,
    keep_going: KeepGoing = True,
    timeout: Timeout = None,
    report: ReportFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Compile what a job will ask for, and keep it in the cache: no chip, weights or data needed.

    Exits with 4 when a case failed to compile, 2 when the manifest or the code that it names is wrong, 6 when cases
    were not finished, and with --check 1 when something is missing. Other cases are done all the same.
    """
    from tpu_dynamo.warmup.scheduler import WarmupRun
    from tpu_dynamo.warmup.workers import Workers

    from .warmup_view import show_cases

    if check and (resume or push):
        refuse("--check makes nothing, so there is nothing to resume or push")
    directory = _directory(cache_dir, writing=not (check or dry_run))
    environment = {"TPU_DYNAMO_CACHE_DIR": str(directory)} | ({"TPU_DYNAMO_CACHE_REMOTE": remote} if remote else {})
    remote = remote or os.environ.get("TPU_DYNAMO_CACHE_REMOTE", "").strip()
    if push and not remote:
        refuse("--push needs a remote tier: --remote URL, or TPU_DYNAMO_CACHE_REMOTE")
    jobs = jobs or max(1, (os.cpu_count() or 1) // 4)
    started = time.monotonic()
    with Workers(jobs, environment, timeout) as workers:
        cases = cases_asked_for(source, target or [], mode, init, only or [], workers)
        run = WarmupRun(cases, directory, jobs, check, resume, not keep_going, push, remote)
        if dry_run:
            show_cases(run, json)
            return
        interrupted = _run_cases(run, workers, not no_progress and not json)
    ended = run.ended()
    _show_ended(ended, check, time.monotonic() - started, report, json)
    if interrupted:
        say("tpu-dynamo: interrupted; what is finished is kept, and --resume leaves it out")
        end(ExitCode.INTERRUPTED)
    end(exit_code(ended))


def _show_ended(ended: list[Result], checking: bool, seconds: float, report: Path | None, json: bool) -> None:
    """Print the results, and write them into the folder `report` if there is one."""
    from tpu_dynamo.warmup.scheduler import as_data

    from .warmup_view import show_results

    data = as_data(ended, checking=checking, seconds=seconds)
    if report is not None:
        from tpu_dynamo.warmup.run_report import write_report

        for file in write_report(report, data):
            say(f"wrote {file}")
    if json:
        print_json(data)
    else:
        show_results(ended, checking=checking, seconds=seconds, console=results())


def exit_code(ended: list[Result]) -> ExitCode:
    """Return the exit code for the results of all cases; the gravest decides."""
    kinds = {result.kind for result in ended if result.state == "failed"}
    states = {result.state for result in ended}
    for code, wanted in (
        (ExitCode.FAILED, {"failed", "crashed"}),
        (ExitCode.USAGE, {"usage"}),
        (ExitCode.ENVIRONMENT, {"environment"}),
        (ExitCode.INCOMPLETE, {"timeout"}),
    ):
        if kinds & wanted:
            return code
    if "left" in states:
        return ExitCode.INCOMPLETE
    return ExitCode.FINDINGS if "missing" in states else ExitCode.OK


def _run_cases(run: WarmupRun, workers: Workers, shown: bool) -> bool:
    """Run the cases, with progress if `shown`; return whether Ctrl-C interrupted them."""
    from .warmup_view import watching

    try:
        with watching(run, shown) as show_event:
            for event in run.run_cases(workers):
                show_event(event)
    except KeyboardInterrupt:
        return True
    except OSError as error:
        refuse(f"what is done cannot be noted in the cache: {error}", ExitCode.CACHE)
    return False


def _directory(given: Path | None, writing: bool) -> Path:
    """Return the cache's directory, made if need be. Refuses one that cannot be used."""
    from tpu_dynamo_runtime.store import Faults, default_path, open_store

    if os.environ.get("TPU_DYNAMO_CACHE", "").strip().lower() in ("off", "0", "false"):
        refuse("the cache is off: TPU_DYNAMO_CACHE says so, and there is nothing to warm", ExitCode.ENVIRONMENT)
    path = (given or default_path()).absolute()
    store = open_store(path, faults=Faults())
    if store.directory is None or (writing and not store.directory.writable):
        refuse(f"the cache in {path} cannot be {'written' if writing else 'used'}", ExitCode.CACHE)
    return path
