"""as_strided of views reads and writes the memory that they view, as in eager; what the graph lacks is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, as_strided, as_strided_scatter

from tpu_dynamo_lowering import UnsupportedInput, UnsupportedOp

pytestmark = pytest.mark.sampled(2)

X = torch.arange(24.0).reshape(4, 6)
Y = torch.arange(40.0)
ONES = torch.ones(2, 2)


def moved_in_place(x: Tensor) -> Tensor:
    y = x.clone()[:, ::2]
    y.as_strided_((2, 3), (6, 2))
    return y * 1


def of_outputs(x: Tensor) -> tuple[Tensor, ...]:
    y = x + 1
    return as_strided(y[:, 1], (2,), (6,)), y[1:], y


VIEWS: dict[str, Callable[[Tensor], object]] = {
    "step": lambda x: as_strided(x[:, ::2], (2, 3), (6, 2)),
    "diagonal": lambda x: as_strided(x.diagonal(), (2,), (7,)),
    "select": lambda x: as_strided(x[:, 1], (2, 2), (6, 1)),
    "expand": lambda x: as_strided(x[0].expand(3, 6), (2, 3), (0, 1)),
    "an offset from the beginning of the memory": lambda x: as_strided(x[:, 1], (2, 2), (6, 1), 0),
    "a dense view that is too small": lambda x: as_strided(x[2], (2, 2), (6, 1), 3),
    "unfold": lambda x: as_strided(x[1:].unfold(0, 2, 1), (3,), (2,), 5),
    "narrow": lambda x: as_strided(x.narrow(1, 2, 3), (4, 2), (6, 1)),
    "transpose": lambda x: as_strided(x.t()[1:], (2, 4), (1, 6)),
    "a view of a transposed result": lambda x: as_strided((x.t() + 1)[1::2], (2, 2), (2, 6)),
    "a view of a view": lambda x: as_strided(as_strided(x[:, 1:], (3, 4), (6, 1))[1:], (2, 2), (6, 2)),
    "views of views with offsets": lambda x: as_strided(x[1:][:, 2:][::2].t(), (2,), (3,)),
    "a part of a split": lambda x: as_strided(x.split(2)[1], (2, 3), (6, 1), 1),
    "a part of a chunk": lambda x: as_strided(x.chunk(3, 1)[1], (4, 2), (6, 1)),
    "unbind": lambda x: as_strided(x.unbind(1)[2], (2, 2), (6, 1)),
    "squeeze": lambda x: as_strided(x[:, 1:2].squeeze(1), (3,), (6,)),
    "permute": lambda x: as_strided(x.reshape(2, 2, 6).permute(2, 0, 1)[1], (2, 2), (1, 6)),
    "real parts": lambda x: as_strided(torch.view_as_real(torch.complex(x, x))[..., 1], (2,), (2,)),
    "no elements": lambda x: as_strided(x[:, 1], (0, 3), (1, 1)),
    "no dimensions": lambda x: as_strided(x[2, 3], (), ()),
    "in place": moved_in_place,
    "among outputs": of_outputs,
    "scatter": lambda x: as_strided_scatter(x, ONES, (2, 2), (6, 2), 3),
    "scatter to a transposed tensor": lambda x: as_strided_scatter(x.t(), ONES, (2, 2), (6, 2), 3),
    "scatter to a view": lambda x: as_strided_scatter(x[1:], ONES, (2, 2), (6, 2), 7),
    "scatter between a view's elements": lambda x: as_strided_scatter(x[:, ::2], ONES, (2, 2), (6, 1)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_as_strided_of_a_view_is_eagers(name, matches_eager):
    matches_eager(VIEWS[name], X)


@pytest.mark.parametrize("name", ["step", "a view of a transposed result", "scatter", "in place"])
def test_and_so_are_its_gradients(name):
    def gradient(function):
        x = X.clone().requires_grad_()
        return torch.autograd.grad(function(x).square().sum(), x)[0]

    torch.testing.assert_close(gradient(torch.compile(VIEWS[name], backend="tpu")), gradient(VIEWS[name]))


@pytest.mark.parametrize("x", [Y[:12], Y[3:15]], ids=["at the beginning", "within its storage"])
def test_offsets_count_from_the_beginning_of_an_inputs_storage(x):
    compiled = torch.compile(lambda x: as_strided(x, (2,), (1,), 5) + 1, backend="tpu", fullgraph=True)
    for _ in range(2):
        assert compiled(x).tolist() == [6, 7]
    with pytest.raises(UnsupportedInput, match="begins at element 1 of its storage"):
        compiled(Y[1:13])


@pytest.mark.parametrize(
    ("function", "x"),
    [
        pytest.param(lambda x: as_strided(x, (2,), (1,), 0), Y[3:15], id="before"),
        pytest.param(lambda x: as_strided(x, (20,), (1,)), Y[3:15], id="behind"),
        pytest.param(lambda x: as_strided(x, (3,), (1,)), Y[::2], id="between"),
    ],
)
def test_memory_that_the_graph_does_not_hold_is_refused(function, x):
    with pytest.raises(UnsupportedOp, match=r"reaches memory of which the graph holds no tensor.*\n  at .*test_bases"):
        raise_cause(lambda: torch.compile(function, backend="tpu")(x))


def raise_cause(call: Callable[[], object]) -> None:
    """Raise what the backend raised, which Dynamo wraps."""
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as raised:
        call()
    assert raised.value.inner_exception is not None
    raise raised.value.inner_exception
