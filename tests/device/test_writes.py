"""Writes: views, `out=`, dtypes and devices, as eager PyTorch on the CPU, its refusals included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytestmark = pytest.mark.sampled(6)

Outcome = list[tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int, Tensor]] | str


def outcome(function: Callable[[str], Any], device: str) -> Outcome:
    """Return the dtype, shape, strides, offset and values of what a function of a device gives, or how it is refused."""
    try:
        results = function(device)
    except (RuntimeError, IndexError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    results = results if isinstance(results, tuple) else (results,)
    assert {r.device.type for r in results} == {device}
    return [(r.dtype, tuple(r.shape), r.stride(), r.storage_offset(), r.cpu()) for r in results]


def check(function: Callable[[str], Any]) -> Outcome:
    """A function of a device gives or is refused on the device what and as it is on the CPU; return the outcome."""
    ours, theirs = outcome(function, "tpu"), outcome(function, "cpu")
    if isinstance(theirs, str) or isinstance(ours, str):
        assert ours == theirs
    else:
        assert [r[:4] for r in ours] == [r[:4] for r in theirs]
        torch.testing.assert_close([r[4] for r in ours], [r[4] for r in theirs], equal_nan=True)
    return theirs


def numbers(device: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    count = torch.Size(shape).numel()
    return (torch.arange(count).view(shape) % 5).to(dtype).to(device)


def ones(device: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype).to(device)


def seen(base: Tensor, *written: Tensor) -> tuple[Tensor, ...]:
    return base, *written


def resized(d: str) -> Any:
    x = numbers(d, 3, 4)
    return seen(x, x[:, 2:].resize_(3, 2).zero_())


def resized_as(d: str) -> Any:
    x = numbers(d, 3, 4)
    return seen(x, x.t().resize_as_(ones(d, 4, 3)).add_(1))


def data_swapped(d: str) -> Any:
    x, y = numbers(d, 3, 4), ones(d, 2, 2)
    view = x[0]
    x.data = y
    x.mul_(3)
    view.add_(1)
    return x, y, view


def through_chains(d: str) -> Any:
    x = numbers(d, 2, 3, 4)
    x.transpose(0, 2)[1:, ::2].squeeze()[..., -1].mul_(10)
    x.view(6, 4).diagonal(1).unsqueeze(0).sub_(1)
    x.unfold(2, 2, 2)[:, :, 0].neg_()
    return x


def a_part_as_another_dtype(d: str) -> Any:
    x = numbers(d, 2, 4, dtype=torch.int32)
    x.view(torch.int16)[:, ::2].add_(7)
    x.view(torch.uint8)[0, 4:8] = 255
    return x


def slices_of_itself(d: str) -> Any:
    x = numbers(d, 3, 4)
    x.copy_(x.flip(0))
    x[:, 1:] = x[:, :-1].clone()
    x[[0, -1]] = 9
    x[x > 3] = -1
    return x


def dimensions_in_place(d: str) -> Any:
    x = numbers(d, 3, 1, 4)
    y = x[1:]
    y.squeeze_().t_().unsqueeze_(0).transpose_(0, 2).fill_(8)
    return x, y


def real_and_imaginary(d: str) -> Any:
    z = numbers(d, 3, 4, dtype=torch.complex64)
    z.real.add_(1)
    z.imag[1:].copy_(z.real[:-1])
    torch.view_as_real(z)[0, :, 0] = 5
    z[2].conj_physical_()
    return z


def lists_of_views(d: str) -> Any:
    x = numbers(d, 8)
    torch._foreach_mul_([x[:2], x[2:4]], 3)
    torch._foreach_add_([x[4:6], x[6:]], [x[:2], x[2:4]])
    return x


def into(shape: tuple[int, ...], compute: Callable[[Tensor, Tensor], Any], dtype: torch.dtype = torch.float32) -> Any:
    """Return a function of a device that computes of a matrix into an `out` of this shape."""
    return lambda d: compute(numbers(d, 3, 4), ones(d, *shape, dtype=dtype))


def out_is_a_view(d: str) -> Any:
    x, y = numbers(d, 3, 4), numbers(d, 3)
    torch.add(y, 1, out=x[:, 1])
    torch.mul(y, 2, out=x.t()[2])
    torch.amax(x, 1, out=(y[:3]))
    return x, y


def out_is_an_operand(d: str) -> Any:
    x = numbers(d, 3, 4)
    torch.mul(x, x, out=x)
    torch.sub(x, 1, out=x)
    return x


# Where eager PyTorch gives a value, and the view of the memory that it is in.
WRITES: dict[str, Callable[[str], Any]] = {
    "a view resized to its own size": resized,
    "a transposed tensor resized to its own size": resized_as,
    "data of another tensor": data_swapped,
    "chains of views": through_chains,
    "another dtype": a_part_as_another_dtype,
    "slices of itself": slices_of_itself,
    "dimensions in place": dimensions_in_place,
    "real and imaginary": real_and_imaginary,
    "lists of views": lists_of_views,
    "filled where it is expanded": lambda d: ones(d, 1).expand(3).fill_(2),
    "a number copied": lambda d: (ones(d, 3).copy_(2.5), ones(d, 3, dtype=torch.int64).copy_(2.5)),
    "out of its size": into((3, 4), lambda x, o: torch.sin(x, out=o)),
    "out that is empty": into((0,), lambda x, o: torch.mm(x, x.t(), out=o)),
    "out of a wider dtype": into((3, 4), lambda x, o: torch.add(x, 1, out=o), torch.float64),
    "out of complex": into((3, 4), lambda x, o: torch.exp(x, out=o), torch.complex64),
    "a sum's out of its dtype": into((4,), lambda x, o: torch.sum(x, 0, out=o), torch.int64),
    "out is a view": out_is_a_view,
    "out is an operand": out_is_an_operand,
}

REFUSED: dict[str, Callable[[str], Any]] = {
    **{
        f"{name} of a bigger tensor": lambda d, name=name: getattr(ones(d, 2), name)(ones(d, 3, 2))
        for name in ("add_", "div_", "pow_", "atan2_", "floor_divide_", "logical_and_", "nextafter_")
    },
    "masked_fill_ of a bigger mask": lambda d: ones(d, 2).masked_fill_(ones(d, 3, 2) > 0, 5),
    "addcmul_ of bigger tensors": lambda d: ones(d, 2).addcmul_(ones(d, 3, 2), ones(d, 3, 2)),
    **{
        f"{name} of an integer by a float": lambda d, name=name: getattr(ones(d, 2, dtype=torch.int64), name)(2.5)
        for name in ("add_", "mul_", "div_", "floor_divide_", "remainder_", "pow_")
    },
    "an integer's logit": lambda d: ones(d, 2, dtype=torch.int64).logit_(),
    "a bool plus an integer": lambda d: ones(d, 2, dtype=torch.bool).add_(2),
    "a bool divided": lambda d: ones(d, 2, dtype=torch.bool).floor_divide_(2),
    **{
        f"{name} into an integer": into((3, 4), lambda x, o, name=name: getattr(torch, name)(x, x, out=o), torch.int64)
        for name in ("add", "maximum", "fmod")
    },
    "sin into an integer": into((3, 4), lambda x, o: torch.sin(x, out=o), torch.int64),
    "exp of complex into a float": lambda d: torch.exp(ones(d, 2, dtype=torch.complex64), out=ones(d, 2)),
    "a copy into expanded memory": lambda d: ones(d, 1).expand(3).copy_(numbers(d, 3)),
    "a copy of the CPU's into expanded memory": lambda d: ones(d, 1).expand(3).copy_(torch.ones(3)),
    "an expanded tensor plus one": lambda d: ones(d, 1).expand(3).add_(1),
    "a leaf that wants a gradient": lambda d: ones(d, 3).requires_grad_().add_(1),
    "a view of such a leaf": lambda d: ones(d, 3).requires_grad_()[1:].zero_(),
    "an index beyond the dimension": lambda d: ones(d, 3)[3],
    "a view of another count": lambda d: ones(d, 3, 4).view(5),
    "a view of a transposed tensor": lambda d: ones(d, 3, 4).t().view(12),
    "shapes that do not multiply": lambda d: ones(d, 2, 3) @ ones(d, 2, 3),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_reaches_what_eagers_reaches(name):
    assert not isinstance(check(WRITES[name]), str)


@pytest.mark.parametrize("name", REFUSED)
def test_a_write_that_eager_refuses_is_refused_in_its_words_and_writes_nothing(name):
    assert isinstance(check(REFUSED[name]), str)


def test_a_refused_write_leaves_its_tensor():
    x = ones("tpu", 2)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x.masked_fill_(ones("tpu", 3, 2) > 0, 5)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x.logical_and_(ones("tpu", 3, 2))
    assert torch.equal(x.cpu(), torch.ones(2))


DTYPES = (torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_are_promoted_as_eagers(dtype):
    def sums(d: str) -> Any:
        x = ones(d, 2, dtype=dtype)
        beside = [ones(d, 2, dtype=other) for other in DTYPES] + [ones(d, dtype=other) for other in DTYPES[1:]]
        return (*(x + other for other in (*beside, True, 2, 0.5, 1j)), x / 2, x * torch.tensor(2.5))

    assert not isinstance(check(sums), str)


MIXED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add": lambda x, y: x + y,
    "add, the other way round": lambda x, y: y + x,
    "add_": lambda x, y: x.add_(y),
    "matmul": lambda x, y: x @ y.t(),
    "cat": lambda x, y: torch.cat([x, y]),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "out": lambda x, y: torch.mul(x, y, out=x),
    "linear": lambda x, y: torch.nn.functional.linear(x, y),
    "foreach": lambda x, y: torch._foreach_add_([x], [y]),
    "one element": lambda x, y: x + y[:1, :1],
    "clamp": lambda x, y: x.clamp(min=y),
}
# Which PyTorch itself refuses before the device is asked.
PYTORCHS = {"add", "add, the other way round", "add_", "one element", "clamp"}


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices_are_refused_with_what_to_do(name):
    x = ones("tpu", 3, 4)
    hint = "" if name in PYTORCHS else r" .*\n  try: \.to\(\"tpu\"\) on the tensor of shape \("
    with pytest.raises(RuntimeError, match="but found at least two devices, tpu:0 and cpu!" + hint):
        MIXED[name](x, torch.ones(3, 4))
    assert torch.equal(x.cpu(), torch.ones(3, 4))


NUMBERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add": lambda x, n: x + n,
    "add, the other way round": lambda x, n: n - x,
    "mul_": lambda x, n: x.mul_(n),
    "where": lambda x, n: torch.where(x > 1, x, n),
    "set": lambda x, n: (x.__setitem__(1, n), x)[1],
    "copy_": lambda x, n: x.copy_(n),
    "fill_": lambda x, n: x.fill_(n),
    "lerp": lambda x, n: torch.lerp(x, x + 1, n),
    "masked_fill": lambda x, n: x.masked_fill(x > 1, n),
    "power": lambda x, n: x**n,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_the_cpu_stands_beside_tensors_of_the_device(name):
    assert not isinstance(check(lambda d: NUMBERS[name](numbers(d, 3, 4), torch.tensor(2.5))), str)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8, 1.0])
def test_lerp_goes_from_the_nearer_end_so_that_infinite_ones_stay(weight):
    start, end = torch.tensor([-math.inf, 1.0, 1.0]), torch.tensor([1.0, math.inf, 3.0])
    expected = torch.lerp(start, end, weight)
    x, y = start.to("tpu"), end.to("tpu")
    weights = torch.full((3,), weight, device="tpu")
    for found in (torch.lerp(x, y, weight), torch.lerp(x, y, weights), *torch._foreach_lerp([x], [y], weight)):
        torch.testing.assert_close(found.cpu(), expected, equal_nan=True)


# Steps of random programs: each takes tensors, writes to some, and may give another.
STEPS: dict[str, Callable[..., Any]] = {
    "row": lambda x, y: x[-1:],
    "every other column": lambda x, y: x[:, ::2],
    "transposed": lambda x, y: x.t(),
    "flat": lambda x, y: x.reshape(1, -1),
    "expanded": lambda x, y: x[:1].expand(2, -1),
    "halves": lambda x, y: x.chunk(2, 1)[-1],
    "detached": lambda x, y: x.detach(),
    "copied": lambda x, y: x.contiguous(),
    "computed": lambda x, y: x * 2 + 1,
    "added": lambda x, y: x.add_(1),
    "multiplied": lambda x, y: x[0].mul_(3),
    "zeroed": lambda x, y: x[:, 0].zero_(),
    "copied over": lambda x, y: x.copy_(y),
    "added to": lambda x, y: x.add_(y),
    "set": lambda x, y: x.__setitem__((0, -1), 7),
    "masked": lambda x, y: x.masked_fill_(x > 5, 5),
    "out": lambda x, y: torch.mul(y, 2, out=x) if x.shape == y.shape else None,
    "turned": lambda x, y: x.t_(),
    "resized": lambda x, y: x.resize_(x.shape),
    "data": lambda x, y: setattr(x, "data", y),
}


@settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=8
    )
)
def test_random_programs_of_views_and_writes(steps):
    here, there = [numbers("cpu", 2, 4)], [numbers("tpu", 2, 4)]
    for name, i, j in steps:
        i, j = i % len(here), j % len(here)
        try:
            theirs = STEPS[name](here[i], here[j])
        except (RuntimeError, IndexError) as error:
            if "refer to a single memory location" not in str(error):
                with pytest.raises(type(error)):
                    STEPS[name](there[i], there[j])
            continue  # tensors that overlap with themselves or each other, which the device may take
        ours = STEPS[name](there[i], there[j])
        if isinstance(theirs, Tensor):
            here.append(theirs)
            there.append(ours)
        for mine, other in zip(there, here, strict=True):
            assert (mine.shape, mine.stride(), mine.storage_offset()) == (
                other.shape,
                other.stride(),
                other.storage_offset(),
            )
            torch.testing.assert_close(mine.cpu(), other)
