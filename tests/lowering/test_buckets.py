"""Padded graphs: each rule's true elements are eager's, whatever pads its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tpu_dynamo.graph.padding import count, place
from tpu_dynamo_lowering import pad_sizes, size_sources

aten = torch.ops.aten


def symbolic(function: Callable[..., Any], inputs: list[torch.Tensor], dims: list[tuple[int, ...]]):
    """The graph of a function with symbols for some dimensions of its inputs."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def as_tuple(*tensors):
        results = function(*tensors)
        return tuple(results) if isinstance(results, tuple | list) else (results,)

    fakes = []
    for i, (tensor, changing) in enumerate(zip(inputs, dims, strict=True)):
        kinds = [DimDynamic.DUCK if d in changing else DimDynamic.STATIC for d in range(tensor.ndim)]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        from torch._dynamo.source import ConstantSource

        fakes.append(mode.from_tensor(tensor, symbolic_context=context, source=ConstantSource(f"x{i}")))
    with mode:
        return make_fx(functionalize(as_tuple))(*fakes)


def poisoned(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of what must not be seen: nan, or numbers of no element."""
    if tensor.dtype.is_floating_point:
        return torch.full(shape, math.nan, dtype=tensor.dtype)
    if tensor.dtype == torch.int64:  # a number that eager takes for an element's
        return torch.full(shape, 4)
    return torch.full(shape, True if tensor.dtype == torch.bool else -7, dtype=tensor.dtype)


def check(
    function: Callable[..., Any], make: Callable[..., list[torch.Tensor]], dims: list[tuple[int, ...]], sizes: int
):
    """Compare the padded graph with the function at sizes below the bucket, and at it."""
    torch.manual_seed(0)
    hints = [6 + 2 * i for i in range(sizes)]
    graph = symbolic(function, make(*hints), dims)
    sources = size_sources(graph)
    buckets = {source.symbol: 2 * source.read(make(*hints)) for source in sources}
    padded = pad_sizes(graph, buckets, [source.symbol for source in sources])
    for lengths in ([h + 1 for h in hints], [h - 1 for h in hints], hints, [2 * h for h in hints]):
        inputs = make(*lengths)
        true = {source.symbol: source.read(inputs) for source in sources}
        given = []
        for tensor, extents in zip(inputs, padded.inputs, strict=True):
            where = place(extents, true)
            room = poisoned(tensor, where.shape)
            where.taken(room).copy_(tensor)
            given.append(room)
        vector = torch.tensor([int(true[symbol]) for symbol in padded.symbols])
        found = torch.fx.Interpreter(padded.module).run(*given, vector)
        expected = function(*inputs)
        expected = list(expected) if isinstance(expected, tuple | list) else [expected]
        for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            if i in padded.numbers:
                assert count(padded.numbers[i], true) == theirs
                continue
            extents = padded.outputs[i]
            assert extents is not None
            torch.testing.assert_close(place(extents, true).taken(ours), theirs, equal_nan=True)


def one(*shape: Any, dtype: torch.dtype = torch.float32) -> Callable[..., torch.Tensor]:
    """Return a function that makes a tensor whose dimensions "a" and "b" are the first and second size."""

    def make(*sizes: int) -> torch.Tensor:
        bound = [sizes["ab".index(s)] if isinstance(s, str) else s for s in shape]
        if dtype.is_floating_point:
            return torch.randn(bound, dtype=dtype)
        return torch.randint(0, 5, bound).to(dtype)

    make.dims = tuple(d for d, s in enumerate(shape) if isinstance(s, str))  # type: ignore[attr-defined]
    make.sizes = {s for s in shape if isinstance(s, str)}  # type: ignore[attr-defined]
    return make


A = one("a", 3)
AB = one("a", "b")
BAC = one(2, "a", 4)
INDEX = one("a", dtype=torch.int64)
IMAGE = one(2, 3, "a", "b")


def grads(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """The function's gradients by its floating inputs."""

    def wrapped(*inputs: torch.Tensor) -> Any:
        floats = [i for i, x in enumerate(inputs) if x.is_floating_point()]

        def of_floats(*given: torch.Tensor) -> torch.Tensor:
            return function(*(given[floats.index(i)] if i in floats else x for i, x in enumerate(inputs)))

        out, pull = torch.func.vjp(of_floats, *(inputs[i] for i in floats))
        return pull(torch.cos(out))

    return wrapped


CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "pointwise": (lambda x, y: torch.relu(x) * y + 1, [A, A]),
    "broadcast": (lambda x, y: x + y, [one("a", "b"), one("b")]),
    "numbers": (lambda x: (x * x.shape[0] + x.shape[0] ** 2, x.shape[0] * 2), [A]),
    "full-of-a-size": (lambda x: x + torch.full_like(x, x.shape[0]) + torch.full((x.shape[0], 1), x.shape[0]), [A]),
    "sum": (lambda x: (x.sum(), x.sum(0), x.sum(1), x.sum((0, 1), keepdim=True)), [AB]),
    "mean": (lambda x: (x.mean(), x.mean(0), x.mean(1, keepdim=True)), [AB]),
    "mean-bfloat16": (lambda x: x.mean(0), [one("a", 3, dtype=torch.bfloat16)]),
    "var": (lambda x: (x.var(), x.var(0, correction=0), *torch.var_mean(x, 1), x.std(0)), [AB]),
    "extremes": (lambda x: (x.amax(0), x.amin(1), *x.max(0), *x.min(1), x.max(), x.argmax(1), x.argmin(0)), [AB]),
    "extremes-int": (lambda x: (x.amax(0), x.amin(1), *x.max(0), x.argmax(1), x.argmin(0)), [one("a", "b", dtype=torch.int32)]),
    "prod-any-all": (lambda x: (x.prod(0), (x > 0).any(1), (x > -9).all(), (x != 0).all(0)), [AB]),
    "norms": (lambda x: (x.norm(), torch.linalg.vector_norm(x, 1, 0), torch.linalg.vector_norm(x, math.inf, 1)), [AB]),
    "logsumexp": (lambda x: (x.logsumexp(0), x.logsumexp(1)), [AB]),
    "softmax": (lambda x: (x.softmax(0), x.log_softmax(1)), [AB]),
    "softmax-gradient": (grads(lambda x: x.softmax(0) + x.log_softmax(1)), [AB]),
    "scans": (lambda x: (x.cumsum(0), x.cumprod(1), *x.cummax(0), x.logcumsumexp(1)), [AB]),
    "sort": (lambda x: (*x.sort(0), *x.sort(1, descending=True), *aten.sort.stable(x, stable=True, dim=1), *x.topk(3, 1), *x.topk(2, 0, largest=False)), [AB]),
    "sort-int": (lambda x: (*aten.sort.stable(x, stable=True, dim=0), *aten.sort.stable(x, stable=True, dim=1, descending=True)), [one("a", "b", dtype=torch.int64)]),
    "linear": (lambda x, w: F.linear(x, w), [BAC, one(3, 4)]),
    "linear-gradient": (grads(lambda x, w: F.linear(x, w)), [BAC, one(3, 4)]),
    "linear-two-sizes": (grads(lambda x, w: F.linear(x, w)), [one("a", "b", 4), one(3, 4)]),
    "matmul": (lambda x, y: (x @ y, x.t() @ x), [one("a", "b"), one("b", "a")]),
    "bmm": (grads(lambda x, y: x @ y.transpose(1, 2)), [one(2, "a", 3), one(2, "b", 3)]),
    "addmm-vector": (lambda x, v: (x @ v, v.dot(v), torch.addmv(x[:, 0], x, v)), [one("a", "b"), one("b")]),
    "flatten": (lambda x: x.reshape(-1, 4).sum(0) + x.flatten(1).shape[1], [BAC]),
    "view-back": (lambda x: x.reshape(-1, 4).tanh().reshape(2, x.shape[1], 2, 2).permute(0, 2, 1, 3), [BAC]),
    "cat": (lambda x, y: (torch.cat([x, y]), torch.cat([y, x, y]), torch.cat([x[:2], y])), [A, one("b", 3)]),
    "cat-gradient": (grads(lambda x, y: torch.cat([x, y, x])), [A, one("b", 3)]),
    "stack": (lambda x, y: torch.stack([x, y], 1), [A, A]),
    "slices": (lambda x: (x[1:], x[:-1], x[:3], x[-2:], x[2::2], x[x.shape[0] // 2 :], x[: x.shape[0] // 2]), [A]),
    "slices-from-an-end-that-changes": (
        lambda x, y: (x[1 - y.shape[0] :], x[-y.shape[0] : -1], x.select(0, 1 - y.shape[0]), torch.cat([y, x])[-y.shape[0] :]),
        [one("b", 3), A],
    ),
    "slice-gradients": (grads(lambda x: x[1:].sum(0) + x[:-1].sum(0) + x[-2:].sum(0) + x[::2].sum(0)), [A]),
    "select": (lambda x: (x[0], x[-1], x[:, 1], x.select(0, x.shape[0] - 2)), [A]),
    "select-gradients": (grads(lambda x: x[0] + x[-1] * 2), [A]),
    "chunks": (lambda x: torch.cat([x, x, x, x]).reshape(-1, 4, 3).sum(1), [A]),
    "pieces": (lambda x: (*x.split(2, 2), *x.chunk(2, 2), *x.unbind(0)), [BAC]),
    "flip-roll": (lambda x: (x.flip(0), x.flip(0, 1), x.roll(1, 0), x.roll((-2, 1), (0, 1))), [AB]),
    "repeat-expand": (lambda x: (x.repeat(2, 3), x.unsqueeze(0).expand(x.shape[1], -1, -1), x.unfold(0, 3, 2)), [AB]),
    "triangles": (lambda x: (x.tril(), x.triu(1)), [AB]),
    "arange": (lambda x: (torch.arange(x.shape[0]), torch.arange(x.shape[0], x.shape[0] * 2), torch.arange(0, x.shape[0], 2)), [A]),
    "embedding": (grads(lambda i, w: F.embedding(i, w)), [one("a", "b", dtype=torch.int64), one(5, 3)]),
    "gathers": (lambda x, i: (x[i], x.index_select(0, i), x.gather(0, i[:, None].expand(-1, 3)), x[-1 - i], x[i, i % 3]), [A, INDEX]),
    "gather-gradients": (grads(lambda x, i: x[i] + x.gather(0, i[:, None].expand(-1, 3))), [A, INDEX]),
    "index-two": (lambda x, i: (x[:, i], x[i[:, None], i[None, :]], x[i, :, i]), [one(6, "a", 6), one("b", dtype=torch.int64)]),
    "write-rows": (lambda c, x: (c.index_put([torch.arange(x.shape[0])], x), c.index_copy(0, torch.arange(x.shape[0]), x)), [one(30, 3), A]),
    "accumulate": (lambda c, x, i: c.index_put([i], x, accumulate=True), [one(5, 3), A, INDEX]),
    "scatter-add": (lambda c, x, i: c.scatter_add(0, i[:, None].expand(-1, 3), x), [one(5, 3), A, INDEX]),
    "layer-norm": (grads(lambda x, w, b: F.layer_norm(x, (4,), w, b)), [BAC, one(4), one(4)]),
    "batch-norm": (grads(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)), [one("a", 3, 4, "b"), one(3), one(3)]),
    "batch-norm-evaluated": (lambda x, w, b: F.batch_norm(x, w, b.abs()), [one("a", 3, 4, "b"), one(3), one(3)]),
    "group-norm": (grads(lambda x, w, b: F.group_norm(x, 2, w, b)), [one("a", 4, "b", 5), one(4), one(4)]),
    "group-norm-batch": (grads(lambda x, w, b: F.group_norm(x, 2, w, b)), [one("a", 4, 3), one(4), one(4)]),
    "instance-norm": (lambda x: F.instance_norm(x), [IMAGE]),
    "convolution": (grads(lambda x, w: F.conv2d(x, w, stride=2, padding=1)), [IMAGE, one(4, 3, 3, 3)]),
    "convolution-batch": (grads(lambda x, w: F.conv1d(x, w, padding=2)[..., : x.shape[-1]]), [one("a", 3, "b"), one(4, 3, 3)]),
    "transposed-convolution": (grads(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1)), [IMAGE, one(3, 2, 3, 3)]),
    "max-pool": (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), [IMAGE]),
    "max-pool-gradient": (grads(lambda x: F.max_pool2d(x, 3, 2, 1)), [IMAGE]),
    "average-pool": (grads(lambda x: F.avg_pool2d(x, 2, 2)), [IMAGE]),
    "adaptive": (grads(lambda x: F.adaptive_avg_pool2d(x, 1)), [IMAGE]),
    "nearest": (grads(lambda x: aten.upsample_nearest2d(x, [2 * x.shape[2], 3 * x.shape[3]])), [IMAGE]),
    "cross-entropy": (lambda x, t: F.cross_entropy(x.flatten(0, 1), t.flatten(), ignore_index=2), [one("a", "b", 5), one("a", "b", dtype=torch.int64)]),
    "cross-entropy-gradient": (grads(lambda x, t: F.cross_entropy(x[:, :-1].reshape(-1, 5), t[:, 1:].reshape(-1), ignore_index=2)), [one(2, "a", 5), one(2, "a", dtype=torch.int64)]),
    "losses": (lambda x, y: (F.mse_loss(x, y), F.l1_loss(x, y), F.smooth_l1_loss(x, y, reduction="sum"), F.binary_cross_entropy_with_logits(x, y.sigmoid()), F.huber_loss(x, y)), [AB, AB]),
    "loss-gradients": (grads(lambda x, y: F.mse_loss(x, y) + F.smooth_l1_loss(x, y) + F.l1_loss(x, y)), [AB, AB]),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [one("a", 2, "b", 4)] * 3),
    "attention-causal": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [one("a", 2, "b", 4)] * 3),
    "attention-cross": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [one(3, 2, "a", 4), one(3, 2, "b", 4), one(3, 2, "b", 4)]),
    "attention-masked": (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), [one(3, 2, "a", 4), one(3, 2, "b", 4), one(3, 2, "b", 4), one(3, 1, "a", "b")]),
    "attention-gradients": (grads(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)), [one(3, 2, "a", 4), one(3, 2, "b", 4), one(3, 2, "b", 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_true_elements_are_as_in_eager_whatever_pads_the_inputs(name):
    function, makers = CASES[name]
    sizes = len(set().union(*(maker.sizes for maker in makers)))
    check(function, lambda *s: [maker(*s) for maker in makers], [maker.dims for maker in makers], sizes)
