"""Elementwise operators and reductions on shapes, dtypes and broadcasts that nobody thought of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

pytestmark = pytest.mark.sampled(6)

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]

BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "mul": torch.mul, "sub": torch.sub, "div": torch.div, "maximum": torch.maximum,
    "minimum": torch.minimum, "eq": torch.eq, "lt": torch.lt, "where": lambda x, y: torch.where(x > y, x, y),
    "atan2": torch.atan2, "logical_xor": torch.logical_xor, "fmax": torch.fmax, "hypot": torch.hypot,
}  # fmt: skip

REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "sum": lambda x, dim, keep: x.sum(dim, keepdim=keep),
    "mean": lambda x, dim, keep: x.double().mean(dim, keepdim=keep),
    "amax": lambda x, dim, keep: x.amax(dim, keepdim=keep),
    "amin": lambda x, dim, keep: x.amin(dim, keepdim=keep),
    "any": lambda x, dim, keep: x.any(dim, keepdim=keep),
    "all": lambda x, dim, keep: x.all(dim, keepdim=keep),
    "var": lambda x, dim, keep: x.double().var(dim, keepdim=keep, correction=0),
    "logsumexp": lambda x, dim, keep: x.float().logsumexp(dim, keepdim=keep),
    "count_nonzero": lambda x, dim, keep: torch.count_nonzero(x, dim),
}

# An example costs a compile, so there are few; the seed differs from run to run only where a failure is searched for.
few = settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def filled(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.testing.make_tensor(shape, dtype=dtype, device="cpu", low=-5 if dtype.is_signed else 0, high=6)


def agrees(function: Callable[..., Tensor], *tensors: Tensor) -> None:
    try:
        expected = function(*tensors)
    except (RuntimeError, IndexError):
        # Eager refuses these dtypes or this empty dimension. Another example takes this one's place, so that as many
        # are compared as the settings say; where eager refuses all, Hypothesis fails the test.
        reject()
    torch._dynamo.reset()
    actual = torch.compile(function, backend="tpu", fullgraph=True, dynamic=False)(*tensors)
    torch.testing.assert_close(actual, expected, equal_nan=True)


@pytest.mark.parametrize("name", BINARY)
@few
@given(
    shapes=npst.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=4),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    seed=st.integers(0, 100),
)
def test_binary_operators_broadcast_and_promote_as_eager(name, shapes, dtypes, seed):
    pair = zip(shapes.input_shapes, dtypes, strict=True)
    agrees(BINARY[name], *(filled(shape, dtype, seed + i) for i, (shape, dtype) in enumerate(pair)))


@st.composite
def reduced(draw):
    shape = draw(npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    dims = draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda d: d % len(shape)))
    return shape, dims, draw(st.booleans())


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("name", REDUCTIONS)
@few
@given(case=reduced(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 100))
def test_reductions_over_any_dimensions(name, case, dtype, seed):
    shape, dims, keep = case
    agrees(lambda x: REDUCTIONS[name](x, dims, keep), filled(shape, dtype, seed))


@few
@given(
    shape=npst.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_chains_of_views(shape, dtype, data):
    rank = len(shape)
    order = data.draw(st.permutations(range(rank)))
    dim = data.draw(st.integers(0, rank - 1))
    start = data.draw(st.integers(-5, 5))
    step = data.draw(st.integers(1, 3))
    place = (slice(None),) * dim + (slice(start, None, step),)
    agrees(lambda x: x.permute(order)[place].unsqueeze(dim).flip(0).reshape(-1).clone(), filled(shape, dtype, 0))
