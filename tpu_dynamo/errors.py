"""Errors of the front door; lowering and the runtime have their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tpu_dynamo_lowering import SourceLine, Unsupported, UnsupportedOp, describe, named_operation, with_code


class CompilationFailed(RuntimeError):
    """A stage broke on a graph that should compile: a bug of ours or of a library beneath.

    stage: the one that broke. line: the user's line, if known. repro: a folder with the graph in every form it reached.
    """

    code = "TPU103"

    def __init__(self, stage: str, why: str, line: SourceLine | None, repro: Path):
        self.stage, self.why, self.line, self.repro = stage, why, line, repro
        place = f"\n  at {line}" if line else ""
        message = (
            f"{stage} failed on a graph that should compile: {why}{place}\n"
            f"  the graph, its IR and all versions are in {repro}\n"
            "  try: report it with that folder attached; until it is mended, keep this part out of the compiled\n"
            "  function with torch.compiler.disable"
        )
        super().__init__(with_code(message, self.code))


def refusal_of_xla(platform: str, message: str, repro: Callable[[], Path]) -> UnsupportedOp | CompilationFailed:
    """Return the error for a program that XLA refused, with the operation and the user's line if `message` names them.

    An operation that XLA has not implemented on the platform is an UnsupportedOp; all else should compile, so it is a
    CompilationFailed with a repro folder.
    """
    named = named_operation(message)
    if named is None or not message.startswith("UNIMPLEMENTED"):
        return CompilationFailed("XLA", message, None if named is None else named[1], repro())
    operation, line = named
    why = f"XLA has not implemented it for {platform}: {message.splitlines()[0]}"
    hint = "another dtype, or compute it outside the compiled function, on the CPU"
    return UnsupportedOp([Unsupported(operation, why, hint, line)], f"compiled for {platform}")


class NeedsValues(RuntimeError):
    """Code that looks at the values of a tensor where tensors have none, because nothing is computed."""

    code = "TPU105"

    def __init__(self, operation: str, line: SourceLine | None):
        self.line = line
        place = f"\n  at {line}" if line else ""
        message = (
            f"{operation} asks for the values of a tensor, and compiling ahead of time computes none{place}\n"
            "  try: decide on Python numbers or shapes instead, or pass the part before and the part after that line\n"
            "  by themselves"
        )
        super().__init__(with_code(message, self.code))


class FrozenParameterChanged(RuntimeError):
    """A parameter was written to or replaced after `options={"freeze": True}` had made a constant of it."""

    code = "TPU108"

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = (
            f"{names[0]}{others} changed after the graph was compiled with freeze=True, as a constant of its program\n"
            "  try: torch._dynamo.reset() after the last change, and the next call freezes anew; or leave freeze out\n"
            "  while parameters change"
        )
        super().__init__(with_code(message, self.code))


class WrongFakeKernel(RuntimeError):
    """An operator that ran by itself returned another tensor than its fake kernel said."""

    def __init__(self, operator: str, found: object, promised: object):
        super().__init__(
            f"{operator} returned {describe(found)}, and its fake kernel says "
            f"{'nothing' if promised is None else describe(promised)}, for which the rest of the graph is compiled\n"
            "  try: mend the function that torch.library.register_fake was given"
        )


class NotALoss(ValueError):
    """A loss that cannot be differentiated: of a training step, or what a captured model returns."""

    code = "TPU107"

    def __init__(self, why: str):
        super().__init__(with_code(why, self.code))
