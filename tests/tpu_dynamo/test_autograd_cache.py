"""Graphs that AOTAutograd traced in an earlier process are not traced again, and are what they were."""

from __future__ import annotations

import os
import pickletools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import tpu_dynamo
from tests.tpu_dynamo.test_cache import forget, made
from tpu_dynamo._torch_compat import autograd_cache
from tpu_dynamo.graph.torch_cache import kept_by_torch
from tpu_dynamo_lowering import table
from tpu_dynamo_lowering.ops import TABLE
from tpu_dynamo_runtime import client


def told() -> dict[str, int]:
    return tpu_dynamo.stats().autograd_cache


def gradients(function: Callable[..., Any], *args: torch.Tensor) -> list[torch.Tensor]:
    leaves = [arg.clone().requires_grad_() for arg in args]
    out = function(*leaves)
    out.backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def written(x: torch.Tensor) -> torch.Tensor:
    x.mul_(2)
    return x + 1


def aliases(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x * 2
    return y, y[0], x.view(-1), x


def broken(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    torch._dynamo.graph_break()
    return y.cos()


def written_in_training(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[0] = w.sum()
    return (y.tanh() @ w.t()).sum()


class Norm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


@torch.compiler.nested_compile_region
def factorised(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(x)


X = torch.linspace(-1, 1, 12).reshape(4, 3)
SQUARE = X.T @ X + 4 * torch.eye(3)
RUNS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "inference": lambda compiled: compiled(lambda x: torch.sort(x * 2)[0])(X),
    "a write to an input": lambda compiled: [x := X.clone(), compiled(written)(x), x],
    "views": lambda compiled: compiled(aliases)(X.clone()),
    "a graph break": lambda compiled: compiled(broken)(X),
    "training": lambda compiled: gradients(compiled(lambda x, w: F.gelu(x @ w.t()).sum()), X, X + 1),
    "a write in training": lambda compiled: gradients(compiled(written_in_training), X, X + 1),
    "outputs that are no tensors": lambda compiled: compiled(lambda x: (None, x.exp(), 3, x.shape[0]))(X),
    "a check that orders": lambda compiled: compiled(torch.linalg.cholesky)(SQUARE),
    "checks in training": lambda compiled: gradients(compiled(lambda x: torch.linalg.solve(x, x).slogdet()[1]), SQUARE),
    "a check in a region": lambda compiled: compiled(lambda x: factorised(x) + factorised(x + 1))(SQUARE),
    "autocast around it": lambda compiled: under_autocast(compiled(lambda x: x @ x.t()), torch.bfloat16),
}


def under_autocast(function: Callable[..., Any], dtype: torch.dtype) -> torch.Tensor:
    with torch.autocast("cpu", dtype):
        return function(X)


@pytest.mark.parametrize("name", RUNS)
def test_what_was_traced_is_found_again(name):
    run = RUNS[name]
    expected = run(lambda function: function)
    for hits in (False, True):
        forget()
        actual = run(lambda function: torch.compile(function, backend="tpu"))
        torch.testing.assert_close(actual, expected, rtol=1e-2 if "autocast" in name else 1e-5, atol=1e-5)
        assert set(told()) == {"hit" if hits else "miss"}
    assert made() == (0, 0)


def test_buffers_are_written_to_by_what_was_found():
    for hits in (0, 1):
        forget()
        model, eager = Norm(), Norm()
        x = X.clone().requires_grad_()
        out = torch.compile(model, backend="tpu")(x)
        out.sum().backward()
        torch.testing.assert_close(out, eager(X))
        torch.testing.assert_close(dict(model.named_buffers()), dict(eager.named_buffers()))
        assert told().get("hit", 0) == hits


def test_random_numbers_of_what_was_found_follow_the_seed():
    def draw() -> list[torch.Tensor]:
        forget()
        torch.manual_seed(3)
        noisy = torch.compile(lambda x, w: F.dropout(x * w, 0.5).sum(), backend="tpu")
        ones = torch.ones(64), torch.ones(64)
        return [*gradients(noisy, *ones), *gradients(noisy, *ones)]

    first, second = draw(), draw()
    assert told() == {"hit": 1}
    torch.testing.assert_close(first, second)
    assert not torch.equal(first[1], first[4])


def test_on_the_device_too():
    values = []
    for _ in range(2):
        forget()
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2).to("tpu")
        out = torch.compile(model, backend="tpu")(torch.ones(3, 4, device="tpu"))
        out.sum().backward()
        values.append([out.cpu(), torch.as_tensor(model.weight.grad).cpu()])
    assert told() == {"hit": 1}
    torch.testing.assert_close(*values)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return torch.sort(x * 2.0)[0]


def call(**options: Any) -> torch.Tensor:
    forget()
    return torch.compile(doubled, backend="tpu", options=options or None)(X)


def test_another_autocast_dtype_is_another_entry():
    def product(x: torch.Tensor) -> torch.Tensor:
        return x @ x.t()

    for dtype in (torch.bfloat16, torch.float16):
        forget()
        assert under_autocast(torch.compile(product, backend="tpu"), dtype).dtype == dtype
        assert told() == {"miss": 1}


def test_what_changes_a_program_changes_the_tag():
    call()
    call(partitioner="default")
    assert told() == {"miss": 1}
    torch.set_float32_matmul_precision("high")
    call()
    torch.set_float32_matmul_precision("highest")
    assert told() == {"miss": 1}
    call(transfer="copy", max_executables=3)
    assert told() == {"hit": 1}


def test_a_lowering_of_somebody_else_is_not_mixed_up_with_ours(monkeypatch):
    call()
    operator = torch.ops.aten.sort.default
    entry = TABLE[operator]
    theirs = table.Lowering(operator, entry.how, entry.reason, lambda *args: entry.function(*args))
    monkeypatch.setitem(TABLE, operator, theirs)
    call()
    assert [why for why in told() if "registered in" in why] == list(told())


def test_an_entry_whose_program_is_gone_is_a_miss():
    call()
    shutil.rmtree(Path(os.environ["TPU_DYNAMO_CACHE_DIR"]))
    torch.testing.assert_close(call(), doubled(X))
    assert told() == {"miss": 1}
    assert made() == (1, 1)
    call()
    assert told() == {"hit": 1}


def test_an_entry_that_is_damaged_is_a_miss():
    call()
    for file in (Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "aotautograd").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:50])
    torch.testing.assert_close(call(), doubled(X))
    assert told() == {"miss": 1}


def test_an_entry_that_breaks_when_it_is_used_is_named_and_traced_anew(monkeypatch):
    call()

    def broken(*_: object) -> None:
        raise KeyError("a field of another torch")

    where = "torch._functorch._aot_autograd.aot_autograd_result.GenericAOTAutogradResult.wrap_post_compile"
    monkeypatch.setattr(where, broken)
    torch.testing.assert_close(call(), doubled(X))
    assert "an entry cannot be used: KeyError" in str(told())


def test_what_cannot_be_kept_says_why():
    compiled = torch.compile(lambda x: x.sin(), backend="tpu", dynamic=True, options={"fallback": "eager"})
    compiled(torch.ones(3))
    assert told() == {"miss": 1, "its sizes change, and parts of it may run in eager PyTorch": 1}


POW2 = {"buckets": "pow2"}


def halves(x: torch.Tensor, w: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
    y = torch.cat([x[x.shape[0] // 2 :], x]) @ w
    return y.transpose(0, 1), F.gelu(y).sum(0)[:2] * n, x[1:3, 1]


def odd(x: torch.Tensor, w: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
    if x.shape[0] % 2:
        x = x[1:]
    return (x.cumsum(0) @ w,)


def masked(x: torch.Tensor, w: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
    scores = (x @ w @ x.t()).masked_fill(torch.ones(x.shape[0], x.shape[0]).triu(1).bool(), -torch.inf)
    return (scores.softmax(-1) @ x * torch.arange(x.shape[0] + 1)[1:, None] + n,)


@pytest.mark.parametrize(
    ("function", "options", "training"),
    [(halves, {}, True), (halves, POW2, True), (odd, POW2, False), (masked, {}, False), (masked, POW2, False)],
)
def test_graphs_of_changing_sizes_are_kept_for_all_sizes(function, options, training):
    """The second time other sizes come first, and one that the first time did not have."""
    weight = torch.randn(3, 3, requires_grad=training)
    counts = []
    for sizes in ([4, 6, 5], [5, 6, 8, 4]):
        forget()
        compiled = torch.compile(function, backend="tpu", dynamic=True, options=options)
        for n, size in enumerate(sizes, 2):
            x = torch.randn(size, 3, requires_grad=training)
            ours, theirs = compiled(x, weight, n), function(x, weight, n)
            torch.testing.assert_close(ours, theirs)
            assert [value.stride() for value in ours] == [value.stride() for value in theirs]
            if training:
                grads = [torch.autograd.grad([v.sum() for v in values], [x, weight]) for values in (ours, theirs)]
                torch.testing.assert_close(*grads)
        counts.append(made())
        assert set(told()) == ({"hit"} if len(counts) > 1 else {"miss"})
    assert counts[1] == ((0, 0) if options else (1 + training, counts[1][1]))


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_constants_of_graphs_of_changing_sizes_are_kept(device):
    """The empty keys with which a cache of transformers begins are one; torch keeps no graph with filled ones."""

    def shifted(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.tensor([], device=x.device), x.cumsum(0)])

    for _ in range(2):
        forget()
        compiled = torch.compile(shifted, backend="tpu", dynamic=True, options=POW2)
        for size in (5, 7):
            x = torch.randn(size)
            torch.testing.assert_close(compiled(x.to(device)).cpu(), shifted(x))
    assert (told(), made()) == ({"hit": 1}, (0, 0))


def test_bounds_that_are_marked_decide_whether_an_entry_serves():
    for largest in (8, 64, 8):
        forget()
        compiled = torch.compile(lambda x: x.cumsum(0), backend="tpu", options={"buckets": "pow2"})
        for size in (5, 7):
            x = torch.randn(size, 3)
            torch._dynamo.mark_dynamic(x, 0, min=4, max=largest)
            torch.testing.assert_close(compiled(x), x.cumsum(0))
    assert told() == {"hit": 1}


def test_an_operator_of_a_library_may_be_another_in_another_process():
    @torch.library.custom_op("tpu_dynamo_test::scaled", mutates_args=())
    def operator(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    operator.register_fake(torch.empty_like)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="tpu_dynamo_test"):
        torch.compile(lambda x: operator(x), backend="tpu")(X)
    assert told() == {"tpu_dynamo_test::scaled is an operator of a library": 1}


def test_what_attention_becomes_is_part_of_the_key():
    def attend(x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x)

    q = torch.randn(1, 1, 4, 8)
    for flash in (True, False):
        forget()
        with torch.nn.attention.sdpa_kernel(
            [torch.nn.attention.SDPBackend.MATH, *[torch.nn.attention.SDPBackend.FLASH_ATTENTION] * flash]
        ):
            torch.testing.assert_close(torch.compile(attend, backend="tpu")(q), attend(q))
        assert told() == {"miss": 1}


@pytest.mark.parametrize("options", [{"cache": False}, {"cache": "read_only"}, {"autograd_cache": False}], ids=str)
def test_torchs_cache_can_be_left_alone(options):
    call(**options)
    assert told() == {}
    assert kept_by_torch(tpu_dynamo.Options(**options), client("cpu"), False) is None
    assert not (Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "aotautograd").exists()


def test_a_backward_that_cannot_be_compiled_is_an_error_when_it_is_called(monkeypatch):
    operator = torch.ops.aten.gelu_backward.default
    monkeypatch.delitem(TABLE, operator, raising=False)
    monkeypatch.setattr("tpu_dynamo_lowering.expand.torch_decomposition", lambda operator: None)
    x = X.clone().requires_grad_()
    out = torch.compile(lambda x: F.gelu(x), backend="tpu")(x)
    torch.testing.assert_close(out, F.gelu(X))
    with pytest.raises(tpu_dynamo.UnsupportedOp, match="gelu_backward"):
        out.sum().backward()


def test_views_of_one_tensor_are_told_from_separate_tensors():
    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a.mul_(2)
        return b + 1

    x = torch.rand(4)
    for _ in range(2):
        for apart in (True, False):
            torch._dynamo.reset()
            mine = x.clone()
            other = x.clone() if apart else mine[:]
            result = torch.compile(function, backend="tpu")(mine, other)
            torch.testing.assert_close(result, x + 1 if apart else x * 2 + 1)
    assert told() == {"miss": 2, "hit": 2}


def test_no_module_that_happens_to_hold_torch_is_in_a_key():
    pickler = autograd_cache._Pickler(torch.fx.GraphModule({}, torch.fx.Graph()))
    inside = pickler._hash_pickled_value_for_cache({"format": torch.preserve_format, "names": ["a b", "a b"]})
    assert inside == pickler._hash_pickled_value_for_cache(
        {"format": torch.preserve_format, "names": ["a b", "a b "[:3]]}
    )
    written = pickler.dumps([torch.contiguous_format, torch.per_tensor_affine])
    words = {word for _, word, _ in pickletools.genops(written) if isinstance(word, str)}
    assert words == {"builtins", "str", "torch.contiguous_format", "torch.per_tensor_affine"}
