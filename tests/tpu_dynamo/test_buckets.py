"""options={"buckets": ...}: one executable for many sizes, with the results of each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tpu_dynamo
from tpu_dynamo.buckets import Buckets, buckets_of, parse_buckets
from tpu_dynamo.options import OptionError, Options

POW2 = {"buckets": "pow2"}


def test_sizes_are_rounded_up_to_a_bucket():
    assert [Buckets(powers=True).of(n) for n in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]
    assert [Buckets(multiple=128).of(n) for n in (1, 128, 129)] == [128, 128, 256]
    assert [Buckets(sizes=(64, 100)).of(n) for n in (3, 65, 101)] == [64, 100, 101]
    assert Buckets(powers=True).of(900, largest=1000) == 1000


def test_buckets_are_of_all_dimensions_or_of_those_that_are_named():
    table = parse_buckets({"tokens[1]": "pow2", "count": [4, 8]})
    assert buckets_of(table, "L['tokens'].size()[1]") == Buckets(powers=True)
    assert buckets_of(table, "L['count']") == Buckets(sizes=(4, 8))
    assert buckets_of(table, "L['tokens'].size()[0]") is None
    assert buckets_of(parse_buckets({"multiple": 8}), "L['x'].size()[0]") == Buckets(multiple=8)


@pytest.mark.parametrize("given", ["pow3", {"multiple": 0}, [], [0, 4], {"x[0]": "all"}, {1: "pow2"}, 64])
def test_what_is_no_bucket_is_refused(given):
    with pytest.raises(OptionError, match="buckets"):
        Options.parse({"buckets": given})


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 5))


def test_training_at_many_sizes_takes_few_programs_and_gives_eagers_gradients():
    net = model()

    def loss_and_scores(x, t):
        y = net(x)
        return F.cross_entropy(y.flatten(0, 1), t.flatten(), ignore_index=1), y.transpose(0, 1)

    compiled = torch.compile(loss_and_scores, backend="tpu", dynamic=True, options=POW2)
    for batch, length in [(3, 5), (3, 7), (4, 8), (2, 6), (4, 5), (5, 9), (7, 13)]:
        x, t = torch.randn(batch, length, 4), torch.randint(0, 5, (batch, length))
        ours, theirs = compiled(x, t), loss_and_scores(x, t)
        torch.testing.assert_close(ours, theirs)
        assert ours[1].stride() == theirs[1].stride()
        grads = [torch.autograd.grad(result[0], list(net.parameters())) for result in (ours, theirs)]
        torch.testing.assert_close(*grads)
    stats = tpu_dynamo.stats()
    assert stats.graphs == {"forward": 1, "backward": 1}
    assert stats.lowerings == 6  # buckets 4 x 8, 2 x 8 and 8 x 16, forward and backward
    assert stats.buckets == {"padded": 6, "calls": 14}


def test_a_bucket_is_no_larger_than_the_sizes_for_which_the_graph_is_right():
    table = torch.randn(12, 4)

    def function(x):
        torch._check(x.shape[0] <= 12)
        return x + table[: x.shape[0]]

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 9, 12, 11):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(compiled(x), function(x))
    assert tpu_dynamo.stats().buckets["padded"] == 2


def test_a_graph_without_a_proof_is_compiled_for_each_size_and_named(monkeypatch):
    said = []
    monkeypatch.setattr("tpu_dynamo.graph.bucketed.log.warning", lambda text, *args: said.append(text % args))
    compiled = torch.compile(lambda x: torch.fft.rfft(x, dim=0).abs(), backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 6, 7):
        x = torch.randn(rows, 9)  # as many columns as the result has rows would be another graph
        torch.testing.assert_close(compiled(x), torch.fft.rfft(x, dim=0).abs())
    (warning,) = said
    assert "is compiled for each size" in warning
    assert "test_buckets.py" in warning
    assert tpu_dynamo.stats().lowerings == 3
    assert any("_fft_r2c" in reason for reason in tpu_dynamo.stats().buckets)


class OddGradient(torch.autograd.Function):
    """tanh, whose gradient is computed with a transform of which padding is not proven."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return torch.fft.fft(gradient * y, dim=0).real


def test_a_backward_graph_without_a_proof_takes_what_a_padded_forward_graph_saved():
    weight = torch.randn(4, 4, requires_grad=True)

    def function(x):
        return OddGradient.apply((x @ weight).reshape(-1, 4)).sum()

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 6, 8):
        x = torch.randn(3, rows, 4)
        ours, theirs = (torch.autograd.grad(f(x), weight)[0] for f in (compiled, function))
        torch.testing.assert_close(ours, theirs)
    stats = tpu_dynamo.stats()
    assert stats.buckets["padded"] == 1
    assert stats.lowerings == 1 + 3


def test_only_named_dimensions_are_padded():
    compiled = torch.compile(
        lambda x: x.softmax(1), backend="tpu", dynamic=True, options={"buckets": {"x[1]": [8, 16]}}
    )
    for shape in [(3, 5), (3, 7), (4, 6), (4, 20)]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), x.softmax(1))
    assert tpu_dynamo.stats().lowerings == 3  # 3 x 8, 4 x 8 and, above all buckets, 4 x 20


def test_sizes_leave_as_the_true_numbers():
    compiled = torch.compile(lambda x: (x.shape[0] * 2, x + x.shape[0]), backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 6, 7):
        x = torch.randn(rows, 2)
        double, shifted = compiled(x)
        assert double == 2 * rows
        torch.testing.assert_close(shifted, x + rows)
    assert tpu_dynamo.stats().lowerings == 1


def test_padding_of_images_by_the_models_own_operators():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.ZeroPad2d((1, 2, 0, 1)),
        torch.nn.Conv2d(3, 4, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2, 1),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.AdaptiveAvgPool2d(1),
    )
    compiled = torch.compile(net, backend="tpu", dynamic=True, options=POW2)
    for size in (17, 20, 31):
        x = torch.randn(2, 3, size, size + 1)
        before = [b.clone() for b in net.buffers()]
        ours = compiled(x)
        after = [b.clone() for b in net.buffers()]
        net.load_state_dict(dict(zip([n for n, _ in net.named_buffers()], before, strict=True)), strict=False)
        torch.testing.assert_close(ours, net(x))
        torch.testing.assert_close(after, list(net.buffers()))
    assert tpu_dynamo.stats().lowerings == 2


def test_on_the_device_too():
    net = model().to("tpu")
    compiled = torch.compile(net, backend="tpu", dynamic=True, options=POW2)
    with torch.no_grad():
        for rows in (5, 6, 7):
            x = torch.randn(rows, 4)
            torch.testing.assert_close(compiled(x.to("tpu")).cpu(), net.cpu()(x))
            net.to("tpu")
    assert tpu_dynamo.stats().buckets["padded"] == 1


def test_masks_on_the_device_too():
    # Where elements are true is counted on the CPU; a growing cache's attention hides the others on the device.
    def function(x, y):
        joined = torch.cat([x, y])
        keys = joined.view(1, 1, -1, 4)
        return torch.nn.functional.scaled_dot_product_attention(keys[:, :, -1:], keys, keys), joined.sum(0), joined

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 6, 7):
        x, y = torch.randn(rows, 4), torch.randn(rows + 4, 4)
        ours = compiled(x.to("tpu"), y.to("tpu"))
        torch.testing.assert_close([each.cpu() for each in ours], list(function(x, y)))
    stats = tpu_dynamo.stats()
    assert stats.buckets["padded"] == stats.lowerings


def test_an_integer_that_is_one_more_than_a_size():
    # As a cache's position beside its length: the graph calls the sum by the integer's symbol, which no input holds.
    def function(x, n):
        return torch.cat([x, x[:1]]) + torch.arange(n)[:, None]

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 6, 7, 8):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(compiled(x, rows + 1), function(x, rows + 1))
    assert tpu_dynamo.stats().buckets == {"padded": 1, "calls": 4}


def test_a_length_by_which_a_size_would_be_divided_is_none():
    def function(x):
        return (x[1:] * 2).view(-1, 2, x.shape[0] // 2, 4).sum(1)

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    for rows in (5, 7, 9):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(compiled(x), function(x))


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_strides_are_those_of_a_program_without_padding(device):
    # A lone view with gaps is a tensor of its own there, as a cache whose last rows are kept; views that share memory
    # are eager's. 8 rows are a bucket.
    def function(x):
        wide = torch.cat([x, x], 1)
        whole, cut = wide + 1, wide.neg()
        return whole, whole[:, 1:], cut[:, 1:], cut.exp().t(), (wide * 2).t()[1:]

    padded = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    plain = torch.compile(function, backend="tpu", dynamic=True)
    for rows in (6, 7, 8):
        x = torch.randn(rows, rows - 1)
        ours, theirs = padded(x.to(device)), plain(x.to(device))
        assert [each.stride() for each in ours] == [each.stride() for each in theirs]
        torch.testing.assert_close([each.cpu() for each in ours], list(function(x)))
    assert tpu_dynamo.stats().buckets["padded"] == 1


def test_sizes_that_depend_on_each_other_have_buckets_together():
    # A mask with one element more than the cache, of which code asks so in two conditions; 8 and 9 rows, not 8 and 16.
    def function(cache, mask):
        if mask.shape[0] < cache.shape[0] + 1 or mask.shape[0] > cache.shape[0] + 1:
            return cache.sum()
        grown = torch.cat([cache, cache[:1] * 2])
        return (grown * mask[: grown.shape[0], None]).sum(0), grown

    compiled = torch.compile(function, backend="tpu", dynamic=True, options=POW2)
    with torch.no_grad():
        for rows in (5, 6, 7, 8, 9, 15):
            cache, mask = torch.randn(rows, 4), torch.randn(rows + 1)
            torch.testing.assert_close(compiled(cache, mask), function(cache, mask))
    stats = tpu_dynamo.stats()
    assert stats.buckets == {"padded": 2, "calls": 6}
    assert stats.lowerings == 2
