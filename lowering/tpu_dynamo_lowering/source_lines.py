"""The user's own line that an FX node comes from."""

from __future__ import annotations

import linecache
import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch.fx import Node

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


@lru_cache(maxsize=1)
def _torch_folder() -> str:
    return str(Path(torch.__file__).parent)


def _backend_folders() -> list[str]:
    """Return the folders of the backend's packages, with whose code a model may be traced, as what gathers weights."""
    front = getattr(sys.modules.get("tpu_dynamo"), "__path__", ())
    return [os.path.join(folder, "") for folder in front]


@dataclass(frozen=True)
class SourceLine:
    """A place in a Python file: its path, its line counted from 1, the function and the text of the line."""

    file: str
    line: int
    function: str | None = None

    @property
    def text(self) -> str:
        """The line itself, or nothing when the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" + (f" in {self.function}" if self.function else "")
        return f"{place}\n    {self.text}" if self.text else place


def is_own(file: str) -> bool:
    """Return True if a file is the user's or one of their libraries', not torch's or this backend's."""
    return not file.startswith((_torch_folder(), *_backend_folders()))


def user_line(node: Node) -> SourceLine | None:
    """Return the innermost frame outside torch's folder of the stack trace that Dynamo left on `node`.

    Backward nodes carry the trace of the forward operation. None where a node has no trace, as nodes that
    AOTAutograd adds by itself.
    """
    return _innermost_line(node.meta.get("stack_trace") or "")


# Operations of one line have one trace, and a program's nodes are asked several times; a trace has up to 100 frames.
@lru_cache(maxsize=4096)
def _innermost_line(stack_trace: str) -> SourceLine | None:
    frames = _FRAME.findall(stack_trace)
    if not frames:
        return None
    file, line, function = next((frame for frame in reversed(frames) if is_own(frame[0])), frames[-1])
    return SourceLine(file, int(line), function)


def operation_name(line: SourceLine, node: Node) -> str:
    """Return the name of an operation in HLO, such as `/project/model.py:7/self.layers.0/aten.mm.default`.

    Tools that show HLO show this name; the costs of a program are split by the place that it begins with, and what a
    profile measures also by the module, which is absent for operations outside of any.
    """
    module = module_path(node)
    return f"{line.file}:{line.line}/{module}/{node.target}" if module else f"{line.file}:{line.line}/{node.target}"


def module_path(node: Node) -> str:
    """Return where the innermost module that calls an operation stands in the whole model, as `self.layers.0`.

    The empty string outside of modules. Backward operations have the module of their forward operation.
    """
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    steps = re.findall(r"\w+", re.sub(r"^L\['\w+'\]|^\w+", "", path))
    return ".".join(["self", *(step for step in steps if step != "_modules")])


def named_operation(text: str) -> tuple[str, SourceLine] | None:
    """Find the first operation of a graph, and its line, whose HLO name is in a message of XLA's; None for none."""
    match = re.search(r'op_name="(?:[^"]*/)??(/[^":]+|<[^">]+>):(\d+)/(?:self[\w.]*/)?([\w.]+)', text)
    return None if match is None else (match[3], SourceLine(match[1], int(match[2])))
