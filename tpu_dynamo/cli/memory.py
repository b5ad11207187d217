"""`tpu-dynamo memory`: a script of the user's own, and the device's memory while it runs."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from .console import print_json, results, say
from .exit_codes import refuse
from .report import COMMAND
from .shared_options import Json


def memory(
    ctx: typer.Context,
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="What to run; its own arguments stand behind --.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with a picture over time.")] = None,
    json: Json = False,
) -> None:
    """Run a script in this process, and show whose the device's memory is at the peak, by owner and line.

    As `memory train.py --html memory.html -- --steps 20`. It exits as the script does, and shows what was
    recorded until an error (docs/memory.md).
    """
    from tpu_dynamo.device import register_if_free
    from tpu_dynamo.memory_timeline.recorder import record_memory

    if not script.is_file():
        refuse(f"{script}: there is no such file")
    register_if_free()
    with record_memory() as recording:
        failed = _failed(script, ctx.meta.get(COMMAND) or [])
    if (record := recording.record) is not None:
        if json:
            print_json(record.as_dict())
        else:
            results().print(str(record), highlight=False, markup=False, soft_wrap=True)
        if html is not None:
            say(f"wrote {record.to_html(html)}")
    if failed:
        raise typer.Exit(failed)


def _failed(script: Path, arguments: list[str]) -> int:
    """Run a script as `python SCRIPT.py` would; return its exit code, 1 after an error, which it prints."""
    before = sys.argv, sys.path[0]
    sys.argv, sys.path[0] = [str(script), *arguments], str(script.parent.absolute())
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            say(ended.code)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        # The script's own, of whatever kind, shown as Python shows it; what was recorded until then is of use.
        traceback.print_exception(error)
        return 1
    finally:
        sys.argv, sys.path[0] = before
    return 0
