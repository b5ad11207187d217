"""Errors of a case, in words for the author of its manifest or model."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_USER_CODE = "from user code:"
# The model's own error within Dynamo's.
_WITHIN = re.compile(r"""got (\w+)\(['"](.*)['"]\)""")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


class CaseError(Exception):
    """A case that cannot be built or compiled.

    kind: `usage` where the manifest or the code that it names is at fault, `failed` where the compilation is,
    `environment` where the machine is.
    """

    def __init__(self, message: str, kind: str = "usage"):
        self.kind = kind
        super().__init__(message)


@contextlib.contextmanager
def called(calls: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> Iterator[None]:
    """Turn an error of the user's model, called in the block, into a CaseError that shows its inputs.

    calls: the arguments, and the arguments by name, of each call. Our own errors pass unchanged.
    """
    from tpu_dynamo_lowering import Unsupported, UnsupportedInput, UnsupportedOp
    from tpu_dynamo_runtime import CompileError, DoesNotFit, PlatformUnavailable

    from ..errors import CompilationFailed, NeedsValues
    from ..options import OptionError

    ours = (
        CaseError, CompilationFailed, CompileError, DoesNotFit, NeedsValues, OptionError, PlatformUnavailable,
        Unsupported, UnsupportedInput, UnsupportedOp,
    )  # fmt: skip
    try:
        yield
    except Exception as error:
        if isinstance(error, ours):
            raise
        shown = dict.fromkeys(_shown(*call) for call in calls)
        raise CaseError(f"the model raised {describe_error(error)}\n  with {'; '.join(shown)}", "failed") from error


def describe_error(error: BaseException) -> str:
    """Describe an error of the user's code, with the innermost line of that code that it came through."""
    text = str(error)
    name, message = type(error).__name__, text.partition(_USER_CODE)[0].partition("\n\n")[0].strip()
    if (inner := _WITHIN.search(message)) is not None:
        name, message = inner[1], inner[2]
    # Dynamo's errors have the lines of the code that it traced in their text.
    frames = _FRAME.findall(text.partition(_USER_CODE)[2])
    frames += [(f.filename, str(f.lineno), f.name) for f in traceback.extract_tb(error.__traceback__)] * (not frames)
    frames = [frame for frame in frames if _is_users(frame[0])]
    place = f"\n  at {frames[-1][0]}:{frames[-1][1]} in {frames[-1][2]}" if frames else ""
    return f"{name}: {message}{place}"


def _is_users(file: str) -> bool:
    from tpu_dynamo_lowering import is_own

    return is_own(file) and not re.search(r"[\\/](tpu_dynamo|importlib)[\\/]", file) and not file.startswith("<")


def _shown(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Format the arguments of a call: tensors as their dtypes and shapes."""
    import torch

    from .._torch_compat import pytree

    def shape(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        return repr(value)

    named = [("", value) for value in args] + [(f"{name}=", value) for name, value in kwargs.items()]
    return (
        ", ".join(prefix + " ".join(shape(leaf) for leaf in pytree.tree_leaves(value)) for prefix, value in named)
        or "no arguments"
    )
