"""Conjugated and negated views: read, written and returned by compiled functions and eager operators, wherever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import tpu_dynamo
from tests.conftest import equal_outputs

pytestmark = pytest.mark.sampled(2)

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conjugated": lambda z: z.conj(),
    "adjoint": lambda z: z.mH,
    "negated": lambda z: z.conj().imag,
    "plain real": lambda z: z.conj().real,
    "row": lambda z: z.conj()[1],
    "column": lambda z: z.mH[:, 1],
    "negated rows": lambda z: z.conj().imag[1:],
    "negated complex": lambda z: torch._neg_view(z),
    "both": lambda z: torch._neg_view(z.conj()),
}


def item(v: torch.Tensor) -> torch.Tensor:
    v[0] = 1.5
    return v


FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "add_": lambda v: v.add_(1),
    "mul_": lambda v: (v.mul_(2), v.clone(), v.conj()),
    "zero_": lambda v: v.zero_(),
    "item": item,
    "copy_": lambda v: v.copy_(v * 2 + 1),
    "by itself": lambda v: v.mul_(v.conj()),
    "masked": lambda v: v.masked_fill_(v.abs() > 1, 0.5),
    "read": lambda v: (v + 1, v.sum(0)),
    "returned": lambda v: (v, v.conj(), (v * 2).conj()),
    "resolved": lambda v: v.resolve_conj().resolve_neg(),
}

# Where the tensors are, and how the function runs: None for eager operators.
WAYS: dict[str, tuple[str, dict[str, str] | None]] = {
    "eager on the device": ("tpu", None),
    "device": ("tpu", {}),
    "shared": ("cpu", {}),
    "copied": ("cpu", {"transfer": "copy"}),
}


def values(nested: Any) -> Any:
    """Everything on the CPU, as plain tensors."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.detach().cpu().resolve_conj().resolve_neg().clone(), nested)


def check(way: str, view: str, function: str) -> None:
    """A function of a view, called twice, gives what eager gives on the CPU, and leaves the view and its base so."""
    device, options = WAYS[way]
    host = torch.randn(2, 2, dtype=torch.complex64)
    there, run = host.clone().to(device), FUNCTIONS[function]
    torch._dynamo.reset()
    compiled = run if options is None else torch.compile(run, backend="tpu", options=options)
    for _ in range(2):
        mine, theirs = VIEWS[view](there), VIEWS[view](host)
        equal_outputs(values((compiled(mine), mine, there)), values((run(theirs), theirs, host)))


@pytest.mark.parametrize("function", ["add_", "item", "returned"])
@pytest.mark.parametrize("view", ["conjugated", "adjoint", "negated", "both"])
def test_views_on_the_device(view, function):
    check("device", view, function)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("view", ["row", "negated rows"])
def test_views_everywhere(way, view):
    check(way, view, "mul_")


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("way", WAYS)
def test_every_view(way, view, function):
    check(way, view, function)


@pytest.mark.parametrize("view", ["conjugated", "adjoint", "negated complex"])
def test_whole_steps_read_and_write_lazy_views(view):
    class Model(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x.add_(1j)
            return super().forward(x).abs().square().sum()

    host, there = Model(2, 2, dtype=torch.complex64), Model(2, 2, dtype=torch.complex64)
    there.load_state_dict(host.state_dict())
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    z = torch.randn(2, 2, dtype=torch.complex64)
    batch = z.to("tpu")
    step = tpu_dynamo.train_step(there.to("tpu"), torch.optim.SGD(there.parameters(), lr=0.1))
    for _ in range(2):
        optimizer.zero_grad()
        expected = host(VIEWS[view](z))
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(step(VIEWS[view](batch)).cpu(), expected.detach())
        torch.testing.assert_close(batch.cpu(), z)
    torch.testing.assert_close(there.weight.detach().cpu(), host.weight.detach())


def test_copies_of_parameters_know_lazy_views_from_their_memory():
    """Two models hold one memory, one of them conjugated; on a device with its own memory each has a copy."""
    z = torch.randn(3, dtype=torch.complex64)

    class Times(torch.nn.Module):
        def __init__(self, factor: torch.Tensor):
            super().__init__()
            self.register_buffer("factor", factor)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    x = torch.randn(3, dtype=torch.complex64)
    for factor in (z, z.conj()):
        compiled = torch.compile(Times(factor), backend="tpu", options={"transfer": "copy"})
        torch.testing.assert_close(compiled(x), x * factor)


PAIRS = {"conjugated": lambda z: z.conj(), "real": torch.view_as_real, "negated rows": VIEWS["negated rows"]}


@pytest.mark.parametrize("name", PAIRS)
def test_inputs_that_read_one_written_memory_in_two_ways_are_refused(name):
    def function(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        z.mul_(2)
        return v + 1

    z = torch.randn(2, 2, dtype=torch.complex64)
    with pytest.raises(Exception, match="L\\['v'\\] and L\\['z'\\] have one memory") as refused:
        torch.compile(function, backend="tpu")(z, PAIRS[name](z))
    assert isinstance(refused.value.__cause__ or refused.value.inner_exception, tpu_dynamo.UnsupportedInput)
    torch._dynamo.reset()
    torch.testing.assert_close(
        torch.compile(lambda z, v: v * 2, backend="tpu")(z, z.conj()), z.conj().resolve_conj() * 2
    )


def test_views_that_do_not_overlap_what_is_written_are_taken():
    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a.mul_(2)
        return b + 1

    z = torch.randn(6, dtype=torch.complex64)
    host = z.clone()
    expected = function(host[:3], host[3:].conj())
    torch.testing.assert_close(torch.compile(function, backend="tpu")(z[:3], z[3:].conj()), expected)
    torch.testing.assert_close(z, host)
