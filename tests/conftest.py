"""Fixtures that all tests share: a clean state, and eager PyTorch as the oracle."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import tpu_dynamo
from tpu_dynamo_runtime import tpu_chips


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs all cases of tests that are `sampled`."""
    parser.addoption("--every-case", action="store_true", help="run all cases of tests that are marked `sampled`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark most cases of tests that are `sampled` as slow: which, their names decide, so that new cases move no others."""
    if config.getoption("--every-case"):
        return
    for item in items:
        sampled = item.get_closest_marker("sampled")
        of_many = isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if sampled and of_many and zlib.crc32(item.name.encode()) % sampled.args[0]:
            item.add_marker(pytest.mark.slow)


# JAX would load libtpu when a test has it compute something, and without a TPU no profile is possible after that.
if "TPU_DYNAMO_TARGET" not in os.environ and not tpu_chips():
    jax.config.update("jax_platforms", "cpu")

# Set by pytest, and by JAX when a test has it compute something.
_SET_BY_OTHERS = re.compile("PYTEST_CURRENT_TEST|TPU_(?!DYNAMO).*")


def global_settings() -> dict[str, Any]:
    """Return the settings of this process that a test may change and must put back, by name (0.3 ms)."""
    return {
        "working directory": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if not _SET_BY_OTHERS.fullmatch(name)},
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "handlers of signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "tpu")],
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "threads": torch.get_num_threads(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "conversion of modules": (
            torch.__future__.get_swap_module_params_on_conversion(),
            torch.__future__.get_overwrite_module_params_on_conversion(),
        ),
        "modes": [type(mode).__name__ for mode in _get_current_dispatch_mode_stack()],
        "torch._dynamo.config": torch._dynamo.config.get_config_copy(),
        "torch._functorch.config": torch._functorch.config.get_config_copy(),
        "jax_enable_x64": jax.config.jax_enable_x64,
    }


@pytest.fixture(autouse=True)
def unchanged_settings() -> Iterator[None]:
    """Fail a test that leaves a setting of the process changed, after all its fixtures have put back theirs."""
    before = global_settings()
    yield
    changed = [name for name, value in global_settings().items() if value != before[name]]
    assert not changed, f"the test left these changed for those after it: {', '.join(changed)}"


@pytest.fixture(scope="session", autouse=True)
def caches_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give what is made for several tests caches of this run: never the user's own, whose lines may be another tree's."""
    directory = tmp_path_factory.mktemp("shared cache")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("TPU_DYNAMO_CACHE")]:
            patch.delenv(variable)
        patch.setenv("TPU_DYNAMO_CACHE_DIR", str(directory / "ours"))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(directory / "torchs"))
        yield


@pytest.fixture(autouse=True)
def clean_state(
    unchanged_settings: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No compiled code, counts, seeds or cache of an earlier test, and never the user's own cache."""
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
