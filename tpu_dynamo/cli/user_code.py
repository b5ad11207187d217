"""A user's model as the command line names it: MODULE:FACTORY."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from .exit_codes import refuse


def load(path: str) -> Callable[..., Any]:
    """Import the function or class that MODULE:FACTORY names; MODULE is looked for in this folder too.

    Registers torch.device("tpu") before, as `import tpu_dynamo` does elsewhere. Refuses, with exit code 2, a path that
    names nothing. Raises what the module raises while it is imported.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        refuse(f"{path!r} is not of the form MODULE:FACTORY, as in models:make_bert")
    from tpu_dynamo.device import register_if_free

    register_if_free()
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        refuse(f"no module named {error.name!r}, which {path!r} needs; it is looked for here and in the environment")
    for part in name.split("."):
        if not hasattr(found, part):
            refuse(f"module {module!r} has no {name!r}")
        found = getattr(found, part)
    if not callable(found):
        refuse(f"{path!r} is no function: {type(found).__name__}")
    return found


def call_factory(factory: Callable[..., Any]) -> tuple[Any, ...]:
    """Call a factory; return its (model, args) or (model, args, kwargs). Refuses anything else."""
    found = factory()
    if not (isinstance(found, tuple) and 2 <= len(found) <= 3 and callable(found[0])):
        refuse("the factory must return (model, args) or (model, args, kwargs)")
    return found
