"""PyTorch's OpInfo database as test cases: entries, samples, and how a compiled result is held against eager."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.testing._internal.common_methods_invocations as database
from scipy import stats
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils import _pytree as pytree

import tpu_dynamo  # noqa: F401, which registers the device

# What is in memory that nothing wrote is unspecified: shapes and dtypes are compared.
UNSPECIFIED = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}


def entries(dtype: torch.dtype, gradients: bool = False) -> dict[str, OpInfo]:
    """The entries that take `dtype` on the CPU, by name and variant; with gradients, those that have one."""
    found: dict[str, OpInfo] = {}
    for info in database.op_db:
        takes = info.supported_backward_dtypes("cpu") if gradients else info.supported_dtypes("cpu")
        if dtype in takes and (info.supports_autograd or not gradients):
            found[f"{info.name}-{info.variant_test_name}" if info.variant_test_name else info.name] = info
    return shard(found)


def shard(found: dict[str, OpInfo]) -> dict[str, OpInfo]:
    """This process's share, where OPINFO_SHARD=i/n divides the long suite among n machines, i from 0."""
    index, _, count = os.environ.get("OPINFO_SHARD", "0/1").partition("/")
    return dict(itertools.islice(found.items(), int(index), None, int(count)))


def samples(info: OpInfo, dtype: torch.dtype, count: int | None, gradients: bool = False) -> Iterator[SampleInput]:
    """The entry's first `count` samples, all of them for None; the same ones in every process."""
    torch.manual_seed(0)
    return itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=gradients), count)


def callable_of(info: OpInfo) -> Callable[..., Any]:
    """The entry's operator as a function that Dynamo traces from its first line."""
    # Entries of random operators set the seed inside, which Dynamo refuses to trace; the caller sets it outside.
    database.wrapper_set_seed = lambda operator, *args, **kwargs: operator(*args, **kwargs)
    return lambda given, *args, **kwargs: info.op(given, *args, **kwargs)


def fresh(sample: SampleInput) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The sample's arguments, copied: in-place entries change them."""

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    return pytree.tree_map_only(torch.Tensor, copied, (sample.input, sample.args, sample.kwargs))


def agree(actual: Any, expected: Any, values: bool = True) -> None:
    """Structure, dtypes and shapes are equal, and values to the square root of their dtype's precision."""
    ours, ours_structure = pytree.tree_flatten(actual)
    theirs, theirs_structure = pytree.tree_flatten(expected)
    assert ours_structure == theirs_structure
    for mine, other in zip(ours, theirs, strict=True):
        if not isinstance(other, torch.Tensor):
            assert mine == other or other != other
        elif not values:
            assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        elif other.dtype.is_floating_point or other.dtype.is_complex:
            precision = torch.finfo(other.dtype).eps
            torch.testing.assert_close(mine, other, rtol=precision**0.5, atol=100 * precision, equal_nan=True)
        else:
            torch.testing.assert_close(mine, other)


def check(info: OpInfo, sample: SampleInput, backend: str = "tpu") -> None:
    """One sample, compiled as one graph, against eager."""
    function = callable_of(info)
    torch._dynamo.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=True, dynamic=False)

    def eager_at(seed: int) -> tuple[Any, ...]:
        return (run_at(seed, function, fresh(sample), sample),)

    def compiled_at(seed: int) -> tuple[Any, ...]:
        return (run_at(seed, compiled, fresh(sample), sample),)

    compare(info, compiled_at, eager_at)


def check_on_device(info: OpInfo, sample: SampleInput) -> None:
    """One sample in eager on torch.device("tpu"), against eager on the CPU: the result, and the input afterwards."""
    function = callable_of(info)

    def on_cpu(seed: int) -> tuple[Any, Any]:
        given = fresh(sample)
        return run_at(seed, function, given, sample), given[0]

    def on_device(seed: int) -> tuple[Any, Any]:
        given = to_device(fresh(sample))
        return run_at(seed, function, given, sample), pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, given[0])

    compare(info, on_device, on_cpu)


def run_at(seed: int, function: Callable[..., Any], given: Any, sample: SampleInput) -> Any:
    """Return the function's result from a seed, on the CPU, as the entry wants it compared.

    Bases of a subspace are unique up to a sign or phase; the entry knows what of them can be compared.
    """
    torch.manual_seed(seed)
    result = function(given[0], *given[1], **given[2])
    return sample.output_process_fn_grad(pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, result))


def compare(info: OpInfo, ours_at: Callable[[int], Any], eager_at: Callable[[int], Any]) -> None:
    """Compare results from seeds: values where eager's do not depend on the seed, distributions where they do."""
    ours, theirs = ours_at(0), eager_at(0)
    specified = info.name not in UNSPECIFIED
    if not specified or not is_random(theirs, eager_at(1)):
        agree(ours, theirs, values=specified)
        return
    agree(ours, theirs, values=False)
    agree(ours_at(0), ours)  # a seed's numbers come again
    seeds = range(1, 1 + SEEDS)
    drawn, expected = [ours_at(seed) for seed in seeds], [eager_at(seed) for seed in seeds]
    assert any(is_random(drawn[0], other) for other in drawn[1:]), "all seeds give the same numbers"
    for mine, other in zip(pooled(drawn), pooled(expected), strict=True):
        assert stats.ks_2samp(mine, other, method="asymp").pvalue > LEVEL, "another distribution than eager's"


# Seeds whose draws are put together, since samples are small. A sound generator fails one comparison in a million; the
# seeds are fixed, so one that passes goes on passing.
SEEDS, LEVEL = 8, 1e-6


def pooled(draws: list[Any]) -> list[Any]:
    """Return the numbers of each tensor in results of one structure, those of all draws in one array."""
    leaves = zip(*(pytree.tree_leaves(draw) for draw in draws), strict=True)
    tensors = [torch.stack(leaf) for leaf in leaves if isinstance(leaf[0], torch.Tensor) and leaf[0].numel()]
    return [(torch.view_as_real(t) if t.is_complex() else t).double().flatten().numpy() for t in tensors]


def to_device(values: Any) -> Any:
    """Tensors moved to the device, and the device's name where the CPU's stood."""

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to("tpu").requires_grad_(value.requires_grad)
        is_cpu = (isinstance(value, str) and value == "cpu") or value == torch.device("cpu")
        return torch.device("tpu") if isinstance(value, str | torch.device) and is_cpu else value

    return pytree.tree_map(moved, values)


def is_random(first: Any, second: Any) -> bool:
    """Return True if two runs from different seeds differ by more than rounding."""
    try:
        agree(first, second)
    except AssertionError:
        return True
    return False


def check_gradients(info: OpInfo, sample: SampleInput, backend: str = "tpu") -> None:
    """The gradients of one sample, compiled, against eager's."""
    function = callable_of(info)

    def loss(given: Any, args: Any, kwargs: Any) -> torch.Tensor:
        outputs = sample.output_process_fn_grad(function(given, *args, **kwargs))
        parts = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        return sum((part.abs() if part.is_complex() else part).double().square().sum() for part in parts)

    def gradients(step: Callable[..., torch.Tensor]) -> list[Any]:
        given = fresh(sample)
        wanted = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        torch.manual_seed(0)
        return list(torch.autograd.grad(step(*given), wanted, allow_unused=True))

    expected = gradients(loss)
    torch._dynamo.reset()
    agree(gradients(torch.compile(loss, backend=backend, fullgraph=True, dynamic=False)), expected)
