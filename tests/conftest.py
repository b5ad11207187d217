"""Fixtures that all tests share: a clean state, and eager PyTorch as the oracle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import tpu_dynamo


@pytest.fixture(autouse=True)
def clean_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No compiled code, counts, seeds or cache of an earlier test, and never the user's own cache."""
    for variable in [name for name in os.environ if name.startswith("TPU_DYNAMO_CACHE")]:
        monkeypatch.delenv(variable)
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(directory / "ours"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(directory / "torchs"))
    torch._dynamo.reset()
    tpu_dynamo.reset_stats()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()
    shutil.rmtree(directory, ignore_errors=True)


def equal_outputs(actual: Any, expected: Any) -> None:
    """Two nested results agree: structure, dtypes and shapes exactly, values to the tolerance of their dtype."""
    actual_leaves, actual_structure = pytree.tree_flatten(actual)
    expected_leaves, expected_structure = pytree.tree_flatten(expected)
    assert actual_structure == expected_structure
    for ours, theirs in zip(actual_leaves, expected_leaves, strict=True):
        if isinstance(theirs, torch.Tensor):
            torch.testing.assert_close(ours, theirs, equal_nan=True)
        else:
            assert ours == theirs


@pytest.fixture
def matches_eager() -> Callable[..., Any]:
    """Compile a function as one graph, call it, and compare with eager; gives the compiled result.

    Tensors are cloned for each call, so that a function may change its arguments; changes are compared too.
    """

    def check(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        torch._dynamo.reset()

        def fresh() -> tuple[Any, ...]:
            return pytree.tree_map_only(torch.Tensor, clone_with_strides, args)

        eager_args, compiled_args = fresh(), fresh()
        expected = function(*eager_args)
        compiled = torch.compile(function, backend="tpu", fullgraph=True, options=options)
        actual = compiled(*compiled_args)
        equal_outputs(actual, expected)
        equal_outputs(compiled_args, eager_args)
        return actual

    return check


def clone_with_strides(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor with its strides, overlapping ones included."""
    if tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        return tensor.detach().clone(memory_format=torch.preserve_format)
    storage = tensor.untyped_storage().clone()
    return torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())
