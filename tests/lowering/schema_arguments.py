"""Arguments for an operator, made from its schema: what eager PyTorch takes of what the types and names suggest."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from .hand_written_arguments import HAND_WRITTEN, KEYWORDS

aten = torch.ops.aten

Call = tuple[list[Any], dict[str, Any]]

_USUAL = ((3, 4), (4, 4), (4,), (2, 3, 4), (2, 4, 4), (2, 4, 4, 4), (2, 4, 4, 4, 4))

# The shapes of the first tensor in each form. Of `permuted` the memory runs the other way.
FORMS = {"smallest": tuple((1,) * rank for rank in range(1, 6)), "usual": _USUAL, "permuted": _USUAL}

_DTYPES = (torch.float32, torch.int64, torch.complex64, torch.bool, torch.bfloat16)

# So many are tried.
_MOST = 200

_INDICES = {"index", "indices", "target", "offsets", "max_indices", "pivots", "LU_pivots", "offset2bag", "repeats"}
_MASKS = {"mask", "condition", "pred"}
_DIMENSIONS = {"dim", "dims", "dim1", "dimension", "dimensions", "axis", "dim0", "sumdim"}
_NUMBERS = {"dim2": 1, "eps": 1e-5, "momentum": 0.1, "p": 0.5, "steps": 5, "correction": 1, "high": 9, "to": 9}
_STRINGS = ("sum", "mean", "add", "constant", "floor", "ij", "none")


@dataclass(frozen=True)
class _Guess:
    """Return values to try for an argument of which neither type nor name says enough.

    others: the shape of every tensor but the first: that of the first, its channels, transposed, without dimensions.
    lists, number: what lists of integers, and integers, are.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    permuted: bool
    others: str
    lists: str
    number: int

    def tensor(self, name: str, first: bool) -> torch.Tensor:
        channels = self.shape[1:2] or self.shape
        shape = {
            "same": self.shape,
            "channels": channels,
            "transposed": self.shape[::-1],
            "scalar": (),
            "rows": self.shape[:1],
        }
        size = self.shape if first else shape[self.others]
        dtype = torch.int64 if name in _INDICES else torch.bool if name in _MASKS else self.dtype
        stored = size[::-1] if self.permuted else size
        if dtype.is_floating_point or dtype.is_complex:
            made = (torch.rand(stored) * 0.8 + 0.1).to(dtype)
        else:
            made = torch.randint(0, 2 if dtype == torch.bool else min(self.shape), stored).to(dtype)
        return made.permute(tuple(reversed(range(len(size))))) if self.permuted else made

    def integers(self, name: str) -> list[int]:
        if name in _DIMENSIONS:
            return list(range(len(self.shape)))[:: -1 if name == "dims" else 1] if self.lists == "shape" else [0]
        rank = len(self.shape)
        lists = {"shape": [*self.shape], "one": [1], "spatial": [1] * (rank - 2), "pairs": [1, 1] * max(rank - 2, 1)}
        return lists[self.lists]

    def value(self, name: str, kind: str, first: bool) -> Any:
        kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
        if kind == "Tensor":
            return self.tensor(name, first)
        if kind.startswith("List[") and "Tensor" in kind:
            return [self.tensor(name, first), self.tensor(name, first)]
        return {
            "List[int]": lambda: self.integers(name),
            "List[bool]": lambda: [True] * 3,
            "List[number]": lambda: [0.5, 2.0],
            "int": lambda: 0 if name in _DIMENSIONS else _NUMBERS.get(name, self.number),
            "number": lambda: _NUMBERS.get(name, 0.5 if self.dtype.is_floating_point else 2),
            "float": lambda: _NUMBERS.get(name, 0.5),
            "bool": lambda: True,
            "ScalarType": lambda: self.dtype,
            "str": lambda: _STRINGS[self.number % len(_STRINGS)],
            "Device": lambda: torch.device("cpu"),
        }.get(kind, lambda: None)()


def calls(overload: OpOverload, form: str, given: bool) -> Iterator[Call]:
    """Arguments that an operator may take, in the order in which they are tried.

    given: whether arguments with a default are written out, tensors among them; else they are left out.
    """
    arguments = overload._schema.arguments
    kinds = [str(argument.real_type) for argument in arguments if given or not argument.has_default_value()]
    ways: tuple[tuple[Any, ...], ...] = (
        FORMS[form],
        _DTYPES,
        ("same", "channels", "transposed", "scalar", "rows")
        if sum("Tensor" in kind for kind in kinds) > 1
        else ("same",),
        ("one", "shape", "spatial", "pairs") if any("List[int]" in kind for kind in kinds) else ("one",),
        (1, 0, 2) if any(kind in ("int", "str") for kind in kinds) else (1,),
    )
    # What differs least from the first of everything comes first.
    orders = sorted(itertools.product(*(range(len(way)) for way in ways)), key=sum)[:_MOST]
    for order in orders:
        shape, dtype, others, lists, number = (way[i] for way, i in zip(ways, order, strict=True))
        guess = _Guess(shape, dtype, form == "permuted", others, lists, number)
        torch.manual_seed(0)
        args, kwargs, first = [], {}, True
        for argument in arguments:
            kind = str(argument.real_type)
            if argument.has_default_value():
                if not given:
                    continue
                value = guess.value(argument.name, kind, first) if "Tensor" in kind else argument.default_value
            else:
                value = guess.value(argument.name, kind, first)
            first = first and "Tensor" not in kind
            if argument.kwarg_only:
                kwargs[argument.name] = value
            else:
                args.append(value)
        yield args, kwargs


def accepted(overload: OpOverload, form: str, given: bool) -> tuple[Call, Any] | None:
    """The first call that eager PyTorch takes, and its result; None where it takes none."""
    if overload in HAND_WRITTEN:
        torch.manual_seed(0)
        call = _permuted(HAND_WRITTEN[overload]()) if form == "permuted" else HAND_WRITTEN[overload]()
        call = call, KEYWORDS.get(overload, {})
        result = eager(overload, call)
        return None if result is None else (call, result)
    seen = set()
    for args, kwargs in calls(overload, form, given):
        key = str(pytree.tree_map_only(torch.Tensor, lambda t: (t.dtype, t.shape), (args, kwargs)))
        if key in seen:
            continue
        seen.add(key)
        if (result := eager(overload, (args, kwargs))) is not None:
            return (args, kwargs), result
    return None


def _permuted(args: list[Any]) -> list[Any]:
    """Return the arguments with tensors whose dimensions lie in memory in reverse.

    Indices stay: some of eager PyTorch's kernels, as fractional_max_pool3d_backward's, read theirs as if contiguous.
    """

    def permute(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.int64:
            return tensor
        order = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(order).contiguous().permute(order)

    return pytree.tree_map_only(torch.Tensor, permute, args)


def eager(overload: OpOverload, call: Call) -> Any:
    """Return eager PyTorch's result of a call; None where it refuses it."""
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, call)
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return overload(*args, **kwargs)
    except (RuntimeError, TypeError, IndexError, ValueError, AssertionError, NotImplementedError):
        return None
