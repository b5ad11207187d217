"""Errors of lowering. Each says what was asked, why it cannot be, the user's own line, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from ._torch_compat import pytree
from .source_lines import SourceLine, user_line


def describe(value: object) -> str:
    """Describe a tensor as `float32[2, 3]`, anything else as itself."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return str(value)


def describe_call(node: Node) -> str:
    """Describe the node's operation, dtypes and shapes of arguments included: `aten.add.Tensor(float32[2], 1)`."""

    def show(argument: object) -> str:
        if isinstance(argument, Node):
            value = argument.meta.get("val")
            return f"({', '.join(map(describe, value))})" if isinstance(value, list | tuple) else describe(value)
        if isinstance(argument, list | tuple):
            return f"[{', '.join(map(show, argument))}]"
        return str(argument)

    arguments = [show(a) for a in node.args] + [f"{k}={show(v)}" for k, v in node.kwargs.items()]
    return f"{node.target}({', '.join(arguments)})"


@dataclass(frozen=True)
class Unsupported:
    """One operation that cannot be lowered, or one input that no program can take.

    code: the page that explains it. node: the name of the operation's node, in the graph in which it was met.
    """

    operation: str
    why: str
    hint: str
    line: SourceLine | None
    code: str = "TPU101"
    node: str | None = field(default=None, compare=False)

    @classmethod
    def at(cls, node: Node, why: str, hint: str) -> Unsupported:
        """Make the refusal of `node`, described by its arguments and its line."""
        return cls(describe_call(node), why, hint, user_line(node), node=node.name)

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the refusal as plain data."""
        line = self.line
        return {
            "code": self.code, "operation": self.operation, "why": self.why, "hint": self.hint,
            "file": line and line.file, "line": line and line.line, "function": line and line.function,
            "text": line and line.text,
        }  # fmt: skip

    def __str__(self) -> str:
        place = self.line or "a line that the trace does not know (the operation was added while tracing)"
        return f"{self.operation}: {self.why}\n  at {place}\n  try: {self.hint}"


def with_code(message: str, code: str) -> str:
    """Append the line that names the page of an error's code to its message."""
    return f"{message}\n  {code}: `tpu-dynamo explain {code}` says more"


class UnsupportedOp(NotImplementedError):
    """Operations of one graph that have no lowering to StableHLO, all of them at once; or one that XLA has not.

    `problems` holds them in the graph's order. impossible: what they cannot be.
    """

    code = "TPU101"

    def __init__(self, problems: Iterable[Unsupported], impossible: str = "lowered to StableHLO"):
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 operation" if count == 1 else f"{count} operations"
        message = f"{head} of this graph cannot be {impossible}\n" + "\n".join(map(str, self.problems))
        super().__init__(with_code(message, self.code))


class UnsupportedInput(TypeError):
    """An input or output of a graph that a StableHLO program cannot take or give.

    named: the input as the user's code names it, the beginning of the message. why: the rest of that sentence.
    hint: what to do, if anything is known. code: the page that explains it. `problems` holds the refusal as data.
    """

    def __init__(self, named: str, why: str, hint: str = "", code: str = "TPU102"):
        self.code = code
        self.problems = (Unsupported(named, f"{named} {why}", hint, None, code),)
        super().__init__(f"{named} {why}\n  try: {hint}" if hint else f"{named} {why}")

    def __str__(self) -> str:
        return with_code(super().__str__(), self.code)


@dataclass
class LoweringFailed(RuntimeError):
    """A stage of lowering failed on a graph that should lower: our mistake or a bug of a library beneath.

    stage: the stage's name. why: what the stage said. line: the user's line, where it is known.
    artifacts: file name -> text, what is needed to see the failure again.
    """

    stage: str
    why: str
    line: SourceLine | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        place = f"\n  at {self.line}" if self.line else ""
        return f"{self.stage} failed: {self.why}{place}"


def tensors_of(node: Node) -> list[torch.Tensor]:
    """Return the fake tensors that `node` stands for: one, several, or none."""
    return [v for v in pytree.tree_leaves(node.meta.get("val")) if isinstance(v, torch.Tensor)]
