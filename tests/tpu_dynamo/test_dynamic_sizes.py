"""Symbolic sizes: one executable for each set of sizes, without another trace by Dynamo."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.decorators import mark_unbacked
from torch._dynamo.testing import CompileCounterWithBackend

import tpu_dynamo


def counted():
    return CompileCounterWithBackend("tpu")


def test_a_dimension_that_changes_is_traced_twice_and_lowered_for_each_size():
    counter = counted()
    compiled = torch.compile(lambda x: torch.relu(x) @ x.t(), backend=counter)
    for rows in (3, 4, 5, 6, 5, 3):
        x = torch.randn(rows, 7)
        torch.testing.assert_close(compiled(x), torch.relu(x) @ x.t())
    assert counter.frame_count == 2
    # The static graph of 3 rows, then the symbolic one at 4, 5, 6 and 3 rows: the last gives the first program again.
    stats = tpu_dynamo.stats()
    assert stats.lowerings == 5
    assert stats.xla_compiles == 4
    assert stats.cache_hits == {"memory": 1}


def test_two_dimensions_change_independently():
    counter = counted()

    def attend(x, mask):
        return torch.softmax(x.masked_fill(mask, -1e9), -1).sum(0)

    compiled = torch.compile(attend, backend=counter, dynamic=True)
    for batch, length in [(2, 3), (2, 5), (4, 5), (7, 9), (3, 2)]:
        x = torch.randn(batch, length)
        mask = torch.arange(length) > length // 2
        torch.testing.assert_close(compiled(x, mask), attend(x, mask))
    assert counter.frame_count == 1


def test_sizes_leave_as_numbers():
    compiled = torch.compile(lambda x: (x.shape[0] * 2, x + x.shape[0], x.numel()), backend="tpu", dynamic=True)
    for rows in (2, 3, 5):
        x = torch.randn(rows, 4)
        double, shifted, count = compiled(x)
        assert (double, count) == (rows * 2, rows * 4)
        torch.testing.assert_close(shifted, x + rows)


def test_integers_enter_as_sizes():
    compiled = torch.compile(lambda x, n: x[:n].sum() * n, backend="tpu", dynamic=True)
    x = torch.randn(10)
    for n in (2, 3, 7):
        torch.testing.assert_close(compiled(x, n), x[:n].sum() * n)


def test_derived_sizes_are_computed(subtests):
    def halves(x):
        n = x.shape[0] // 2
        return torch.cat([x[n:], x[:n]]), torch.arange(n), x.new_zeros(n, n + 1)

    compiled = torch.compile(halves, backend="tpu", dynamic=True)
    for rows in (4, 7, 10):
        x = torch.randn(rows)
        for ours, theirs in zip(compiled(x), halves(x), strict=True):
            with subtests.test(rows=rows):
                torch.testing.assert_close(ours, theirs)


def test_gradients_of_symbolic_graphs_match_eager():
    weight = torch.randn(4, requires_grad=True)
    compiled = torch.compile(lambda x, w: (x * w).tanh().sum(), backend="tpu", dynamic=True)
    for rows in (2, 3, 6):
        x = torch.randn(rows, 4)
        (ours,) = torch.autograd.grad(compiled(x, weight), weight)
        (theirs,) = torch.autograd.grad((x * weight).tanh().sum(), weight)
        torch.testing.assert_close(ours, theirs)


def test_outputs_keep_the_strides_of_eager_at_each_size():
    compiled = torch.compile(lambda x: x.t() + 1, backend="tpu", dynamic=True)
    for rows in (2, 3, 5):
        x = torch.randn(rows, 4)
        assert compiled(x).stride() == (x.t() + 1).stride()


def test_strides_that_change_need_no_executable_of_their_own():
    compiled = torch.compile(lambda x: x * 2 + 1, backend="tpu", dynamic=True)
    for columns in (5, 6, 7, 8):
        x = torch.randn(3, columns)[:, :4]
        torch.testing.assert_close(compiled(x), x * 2 + 1)
    assert tpu_dynamo.stats().lowerings <= 2


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        pytest.param(lambda x: x.nonzero() + 1, "aten.nonzero", id="nonzero"),
        pytest.param(lambda x: x[x > 0] * 2, "aten.index", id="boolean-mask"),
    ],
)
def test_sizes_that_depend_on_data_are_refused_with_the_line(function, operation):
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(function, backend="tpu", fullgraph=True)
        with pytest.raises(Exception, match="depends on the values") as caught:
            compiled(torch.randn(4))
    assert operation in str(caught.value)
    assert __file__ in str(caught.value)


def test_sizes_that_depend_on_data_break_the_graph_by_default():
    x = torch.tensor([1.0, -1.0, 2.0])
    torch.testing.assert_close(torch.compile(lambda x: x[x > 0] * 2, backend="tpu")(x), torch.tensor([2.0, 4.0]))


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_view_of_an_input_that_is_written_is_a_view_of_the_input(dynamic, device):
    def function(cache, x, place):
        cache.index_copy_(1, place, x)
        return cache[:, : x.shape[1]], cache.sum((0, 2))

    compiled = torch.compile(function, backend="tpu", dynamic=dynamic)
    ours, theirs = torch.zeros(2, 12, 3, device=device), torch.zeros(2, 12, 3)
    for length in (4, 5):
        x, place = torch.randn(2, length, 3), torch.arange(3, 3 + length)
        found, expected = compiled(ours, x.to(device), place.to(device)), function(theirs, x, place)
        for mine, own in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.cpu(), own)
            assert mine.stride() == own.stride()
        torch.testing.assert_close(ours.cpu(), theirs)
        ours[0, 0, 0] = 7.0
        theirs[0, 0, 0] = 7.0
        torch.testing.assert_close(found[0].cpu(), expected[0])


def listed(results):
    return list(results) if isinstance(results, tuple) else [results]


INTEGERS = {
    "factor": lambda x, n: x * n + n,
    "position": lambda x, n: torch.where(torch.arange(x.shape[0], device=x.device) + n > 9, x.t(), 0.0),
    "row": lambda x, n: x[n] - x[-n],
    "rows": lambda x, n: x[n : n + 2] * 2,
    "returned": lambda x, n: (x + n, 3 * n + x.shape[0]),
    "filled": lambda x, n: torch.full_like(x, n).to(torch.int64) // n,
    "rotated": lambda x, n: x.roll(n, 0),
}


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_which_no_size_depends_are_inputs(name, device):
    function = INTEGERS[name]
    compiled = torch.compile(function, backend="tpu", dynamic=True)
    x = torch.randn(12, 4)
    for n in (2, 3, 4, 7, 9, 2):
        ours, theirs = compiled(x.to(device), n), function(x, n)
        ours = [value.cpu() if isinstance(value, torch.Tensor) else value for value in listed(ours)]
        torch.testing.assert_close(ours, listed(theirs))
    assert tpu_dynamo.stats().lowerings == 1


def test_integers_are_inputs_in_training_at_each_size():
    def function(x, w, n):
        return ((x * w).tanh() * n + torch.arange(x.shape[0])[:, None] * n).sum()

    compiled = torch.compile(function, backend="tpu", dynamic=True)
    weight = torch.randn(4, requires_grad=True)
    for rows in (3, 5):
        for n in (2, 3, 8, 5):
            x = torch.randn(rows, 4)
            ours, theirs = (torch.autograd.grad(f(x, weight, n), weight)[0] for f in (compiled, function))
            torch.testing.assert_close(ours, theirs)
    assert tpu_dynamo.stats().lowerings == 4


def test_integers_that_cannot_be_inputs_have_a_program_for_each_value():
    compiled = torch.compile(lambda x, n: torch.cat([x] * 2).unfold(0, 3, n).sum(), backend="tpu", dynamic=True)
    x = torch.randn(9)
    for n in (2, 3, 2):
        torch.testing.assert_close(compiled(x, n), torch.cat([x] * 2).unfold(0, 3, n).sum())


@pytest.mark.parametrize("options", [{}, {"buckets": "pow2"}], ids=["sizes", "buckets"])
def test_an_unbacked_size_takes_one_trace_for_all_sizes_one_too(options):
    compiled = torch.compile(lambda x: (x * 2).cumsum(0).softmax(0), backend="tpu", options=options)
    for rows in (3, 1, 4):
        x = torch.randn(rows, 4)
        mark_unbacked(x, 0, min=1, max=16)
        torch.testing.assert_close(compiled(x), (x * 2).cumsum(0).softmax(0))
    assert tpu_dynamo.stats().graphs == {"inference": 1}
    assert tpu_dynamo.stats().lowerings == (2 if options else 3)


def test_sizes_to_specialise_on_have_graphs_of_their_own():
    compiled = torch.compile(lambda x: x.cumsum(0) * x.shape[0], backend="tpu", options={"buckets": "pow2"})
    for rows in (3, 8, 5, 8):
        x = torch.randn(rows, 4)
        torch._dynamo.mark_dynamic(x, 0, specialize_on=[lambda size: size == 8])
        torch.testing.assert_close(compiled(x), x.cumsum(0) * rows)
    assert tpu_dynamo.stats().graphs == {"inference": 2}


def test_a_condition_for_each_bucket_gives_each_the_graph_that_its_sizes_want():
    def function(x):
        return x.cumsum(0) * (2 if x.shape[0] <= 8 else 3)

    compiled = torch.compile(function, backend="tpu", options={"buckets": [8, 16, 32]})
    for rows in (3, 12, 7, 20, 15, 8, 30):
        x = torch.randn(rows, 4)
        torch._dynamo.mark_dynamic(x, 0, specialize_on=[lambda size: size <= 8, lambda size: size <= 16])
        torch.testing.assert_close(compiled(x), function(x))
    stats = tpu_dynamo.stats()
    assert stats.graphs == {"inference": 4}  # each of both that the code distinguishes, for all sizes and for fewer
    assert stats.buckets["padded"] == stats.lowerings <= 5
