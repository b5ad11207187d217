"""The comparison of one tensor of ours with eager's: its error, and the bound that its dtype and eager itself give.

A bound has two parts, and the larger counts. One is of the dtype: some units in the last place of the tensor's
magnitude. The other is eager's own error: what eager's result differs from the same operators in float64, which tells
how much the operators make of rounding. Both are taken for the root mean square of the elements and for the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Units in the last place, of the magnitude of a tensor, that two right programs may differ by: they add in other orders
# and use other approximations. Half precision is computed in float32 by both, and rounded at the end.
_UNITS = {torch.float16: 4, torch.bfloat16: 4}
_MORE_UNITS = 32
# How many times eager's own error ours may be. Eager adds in blocks, whose errors are small.
_TIMES = 8


@dataclass(frozen=True)
class Comparison:
    """One tensor of ours beside eager's.

    magnitude: the root mean square of eager's elements. error: that of what ours differs by, from eager's, or from
    float64's where that was computed; largest: the largest difference. own_error: what eager's differs from float64's
    by; None where that was not needed. bound, largest_bound: what error and largest may be. differing: how many
    elements differ, of integers and booleans. nonfinite: how many are nan or infinite, or another infinity, where
    eager's are not. at: the index of the largest difference, ours and eager's value there.
    """

    dtype: str
    shape: tuple[int, ...]
    magnitude: float
    error: float
    bound: float
    largest: float
    largest_bound: float
    own_error: float | None = None
    differing: int = 0
    nonfinite: int = 0
    at: tuple[tuple[int, ...], float | int | str, float | int | str] | None = None

    @property
    def within(self) -> bool:
        """True if ours is right as far as can be told."""
        small = self.error <= self.bound and self.largest <= self.largest_bound
        return small and not self.differing and not self.nonfinite


def compare(ours: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor | None = None) -> Comparison:
    """Compare a tensor with eager's, of the same shape and dtype, both on the CPU.

    exact: the same operators' result in float64. With it errors are measured against it, and integers in which eager
    and it differ, as where rounding decides, are not counted.
    """
    described = str(eager.dtype).removeprefix("torch."), tuple(eager.shape)
    if ours.shape != eager.shape or ours.dtype != eager.dtype:
        return Comparison(*described, 0.0, 0.0, 0.0, 0.0, 0.0, differing=eager.numel() or 1)
    if not (eager.is_floating_point() or eager.is_complex()):
        return _discrete(described, ours, eager, exact)
    wide = torch.complex128 if eager.is_complex() else torch.float64
    mine, theirs = ours.to(wide), eager.to(wide)
    reference = theirs if exact is None else exact.to(wide)
    finite = torch.isfinite(theirs)
    both = finite & torch.isfinite(mine) & torch.isfinite(reference)
    wrong = _wrongly_nonfinite(mine, theirs, reference)
    difference = torch.where(both, mine - reference, 0).abs()
    kept = torch.where(both, theirs, 0).abs()
    info = torch.finfo(eager.dtype)
    unit = _UNITS.get(eager.dtype, _MORE_UNITS) * info.eps
    bound, largest_bound = unit * _rms(kept) + info.tiny, unit * _max(kept) + info.tiny
    own_error = None
    if exact is not None:
        own = torch.where(both, theirs - reference, 0).abs()
        own_error = _rms(own)
        bound, largest_bound = max(bound, _TIMES * own_error), max(largest_bound, _TIMES * _max(own))
    place = wrong if wrong.any() else difference
    return Comparison(
        *described,
        _rms(kept),
        _rms(difference),
        bound,
        _max(difference),
        largest_bound,
        own_error,
        nonfinite=int(wrong.sum()),
        at=_at(place, ours, eager),
    )


def _discrete(
    described: tuple[str, tuple[int, ...]], ours: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor | None
) -> Comparison:
    wrong = ours != eager
    if exact is not None:
        wrong &= exact.to(eager.dtype) == eager
    count = int(wrong.sum())
    at = _at(wrong, ours, eager) if count else None
    return Comparison(*described, 0.0, 0.0, 0.0, 0.0, 0.0, differing=count, at=at)


def _wrongly_nonfinite(ours: torch.Tensor, eager: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mark the elements of ours that are nan or infinite and eager's are not, or finite and both others are not.

    Where ours is finite and eager's has overflowed, float64 says who is right.
    """
    mine, theirs, exact = torch.isfinite(ours), torch.isfinite(eager), torch.isfinite(reference)
    same = (ours == eager) | (torch.isnan(ours) & torch.isnan(eager))
    return (~mine & theirs) | (mine & ~theirs & ~exact) | (~mine & ~theirs & ~same & ~exact)


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt()) if values.numel() else 0.0


def _max(values: torch.Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _at(
    place: torch.Tensor, ours: torch.Tensor, eager: torch.Tensor
) -> tuple[tuple[int, ...], float | int | str, float | int | str] | None:
    if not place.numel():
        return None
    flat = int(place.to(torch.float64).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), place.shape))
    return index, _value(ours[index]), _value(eager[index])


def _value(element: torch.Tensor) -> float | int | str:
    """Return an element as JSON can hold it: nan, infinities and complex numbers as text."""
    value = element.item()
    if isinstance(value, complex) or (isinstance(value, float) and value - value != 0):
        return str(value)
    return value
