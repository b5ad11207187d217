"""Lowerings of operators that write to their arguments, in PyTorch and in JAX: in graphs, in eager, in whole steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor

import tpu_dynamo
from tpu_dynamo_lowering import UnsupportedOp

REFUSED = r"accumulate_jax.default.*it writes to tensors that share memory, of which a lowering in JAX sees separate"


def accumulate(total: Tensor, x: Tensor, count: Tensor | None = None) -> Tensor:
    """Add to `total` and to `count`, and return what is added."""
    total.add_(x.to(total.dtype))
    if count is not None:
        count.add_(1)
    return x.clone()


def scale_all(tensors: list[Tensor], by: float) -> None:
    """Multiply each of a list in place."""
    for tensor in tensors:
        tensor.mul_(by)


def own(name: str, function, written: tuple[str, ...], fake):
    """Define two operators, one for a lowering in PyTorch and one for a lowering in JAX."""
    defined = [
        torch.library.custom_op(f"own_tests_writes::{name}_{language}", function, mutates_args=written)
        for language in ("torch", "jax")
    ]
    for each in defined:
        each.register_fake(fake)
    return [each._opoverload for each in defined]


ACCUMULATE = own("accumulate", accumulate, ("total", "count"), lambda total, x, count=None: torch.empty_like(x))
SCALE_ALL = own("scale_all", scale_all, ("tensors",), lambda tensors, by: None)

tpu_dynamo.lowers(ACCUMULATE[0])(accumulate)
tpu_dynamo.lowers(SCALE_ALL[0])(scale_all)


@tpu_dynamo.lowers(ACCUMULATE[1], language="jax")
def accumulate_in_jax(total, x, count=None):
    return x, total + x, *([] if count is None else [count + 1])


@tpu_dynamo.lowers(SCALE_ALL[1], language="jax")
def scale_all_in_jax(tensors, by):
    return [tensor * by for tensor in tensors]


def an_input(i, x, y):
    return ACCUMULATE[i](x, y) * 2


def rows_of_an_input(i, x, y):
    ACCUMULATE[i](x[1], y[0], x[0])
    return x.sum()


def columns(i, x, y):
    return ACCUMULATE[i](x[:, 0], y[1], x[:, 2])


def a_value_and_its_views(i, x, y):
    z = x.sin()
    row = z[0]
    ACCUMULATE[i](z.t(), y)
    return z + row, row * 2, ACCUMULATE[i](z[1:], y[1:])


def views_of_views(i, x, y):
    upper, lower = x[1:], x[2:]
    ACCUMULATE[i](lower, y[:1], upper[0])
    return upper[::2] * 2


def twice(i, x, y):
    ACCUMULATE[i](x, y)
    ACCUMULATE[i](x, x + 1)
    return x.cos()


def another_dtype(i, x, y):
    total = torch.zeros(3, 3, dtype=torch.float64, device=x.device)
    return ACCUMULATE[i](total, y), total


def a_list(i, x, y):
    z = y.exp()
    SCALE_ALL[i]([x, z[0], z[2]], 3.0)
    return z


def a_result_that_is_an_input(i, x, y):
    SCALE_ALL[i]([x], 0.5)
    return x, x.view(-1)


FUNCTIONS = [
    an_input, rows_of_an_input, columns, a_value_and_its_views, views_of_views, twice, another_dtype, a_list,
    a_result_that_is_an_input,
]  # fmt: skip


def both(function, i, device, *tensors):
    """Return results and inputs of eager on the CPU, compiled and in eager on a device."""
    found = []
    for run, at in (
        (function, "cpu"),
        (torch.compile(function, backend="tpu", fullgraph=True), device),
        (function, device),
    ):
        given = [tensor.clone().to(at) for tensor in tensors]
        found.append((run(i, *given), given))
    return found


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("language", [0, 1], ids=["torch", "jax"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_a_lowering_writes_is_seen_wherever_it_is_read(function, language, device):
    wanted, compiled, eager = both(function, language, device, torch.randn(3, 3), torch.randn(3, 3))
    torch.testing.assert_close(compiled, wanted, check_device=False)
    torch.testing.assert_close(eager, wanted, check_device=False)
    assert not tpu_dynamo.stats().fallbacks and not tpu_dynamo.stats().operator_calls


def overlapping(i, x, y):
    return ACCUMULATE[i](x[0], y[1], x[0])


def overlapping_in_part(i, x, y):
    return ACCUMULATE[i](x.view(-1)[:4], y.view(-1)[:4], x[1])


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("function", [overlapping, overlapping_in_part], ids=lambda f: f.__name__)
def test_memory_that_is_written_twice_is_right_in_pytorch_and_refused_in_jax(function, device):
    wanted, compiled, eager = both(function, 0, device, torch.randn(3, 3), torch.randn(3, 3))
    torch.testing.assert_close(compiled, wanted, check_device=False)
    torch.testing.assert_close(eager, wanted, check_device=False)
    x = torch.randn(3, 3, device=device)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=REFUSED):
        torch.compile(function, backend="tpu", fullgraph=True)(1, x, x + 1)
    if device == "tpu":
        with pytest.raises(NotImplementedError, match=REFUSED):
            function(1, x, x + 1)


def test_an_argument_that_is_read_and_written_has_its_old_value_as_in_every_compiled_graph():
    def function(i, x):
        return ACCUMULATE[i](x, x)

    x = torch.randn(3)
    wanted = torch.compile(function, backend="aot_eager", fullgraph=True)(0, x.clone())
    for language in (0, 1):
        given = x.clone()
        torch.testing.assert_close(torch.compile(function, backend="tpu", fullgraph=True)(language, given), wanted)
        torch.testing.assert_close(given, x * 2)
    on_device = x.to("tpu")
    torch.testing.assert_close(function(0, on_device).cpu(), x * 2)  # eager's
    torch.testing.assert_close(on_device.cpu(), x * 2)


@pytest.mark.parametrize("language", [0, 1], ids=["torch", "jax"])
def test_an_input_that_begins_within_its_storage(language):
    def function(x, y):
        ACCUMULATE[language](x.t(), y)
        return x * 2

    wanted, found = torch.arange(12.0), torch.arange(12.0)
    y = torch.randn(3, 3)
    expected = function(wanted[3:].view(3, 3), y)
    torch.testing.assert_close(
        torch.compile(function, backend="tpu", fullgraph=True)(found[3:].view(3, 3), y), expected
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("language", [0, 1], ids=["torch", "jax"])
def test_a_whole_step_counts_in_a_buffer(language):
    class Counted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)
            self.register_buffer("seen", torch.zeros(4))
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x):
            ACCUMULATE[language](self.seen, x.detach().sum(0), self.steps)
            return self.layer(x).square().mean()

    torch.manual_seed(0)
    plain = Counted()
    model = Counted().to("tpu")
    model.load_state_dict(plain.state_dict())
    step = tpu_dynamo.train_step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(2):
        x = torch.randn(3, 4)
        step(x.to("tpu"))
        optimizer.zero_grad()
        plain(x).backward()
        optimizer.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), check_device=False)
    assert not tpu_dynamo.stats().fallbacks


def test_a_lowering_with_other_results_is_refused_by_name():
    operator = torch.library.custom_op(
        "own_tests_writes::grow", lambda x: None, mutates_args=("x",), schema="(Tensor(a!) x) -> ()"
    )
    operator.register_fake(lambda x: None)
    overload = operator._opoverload
    tpu_dynamo.lowers(overload, language="jax")(lambda x: [x, x])
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="returns 2 arrays: it must return the 0 results"):
        torch.compile(lambda x: overload(x), backend="tpu")(torch.ones(2))


@pytest.mark.parametrize("language", ["torch", "jax"])
@pytest.mark.parametrize(
    ("results", "found"),
    [(lambda x: x[:1], "[(1,)]"), (lambda x: (x, x), "[(2,), (2,)]")],
    ids=["shape", "number"],
)
def test_a_lowering_of_other_shapes_is_refused_with_both(language, results, found):
    name = f"own_tests_writes::other_{language}_{len(found)}"
    operator = torch.library.custom_op(name, torch.clone, mutates_args=(), schema="(Tensor x) -> Tensor")
    operator.register_fake(torch.empty_like)
    tpu_dynamo.lowers(operator._opoverload, language=language)(results)
    wanted = re.escape(f"fake kernel's differ: {found} and [(2,)]")
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=wanted) as raised:
        torch.compile(lambda x: operator(x) + 1, backend="tpu")(torch.ones(2))
    assert isinstance(raised.value.inner_exception, UnsupportedOp)
    alone = torch.compile(lambda x: operator(x) + 1, backend="tpu", options={"fallback": "operator"})
    torch.testing.assert_close(alone(torch.ones(2)), torch.full((2,), 2.0))


@pytest.mark.parametrize("writes", [False, True], ids=["returns", "writes"])
def test_an_operator_of_triton_with_a_lowering_is_not_taken_apart(writes):
    name = f"own_tests_writes::triton_{'writes' if writes else 'returns'}"

    def function(x: Tensor) -> Tensor:
        raise AssertionError("a kernel for GPUs")

    def lowering(x: Tensor) -> Tensor:
        return x.add_(1).clone() if writes else x + 1

    operator = torch.library.triton_op(name, function, mutates_args=("x",) if writes else ())
    operator.register_fake(torch.empty_like)
    tpu_dynamo.lowers(operator._opoverload)(lowering)
    for device in ("cpu", "tpu"):
        x = torch.ones(3, device=device)
        found = torch.compile(lambda x: operator(x) * 2, backend="tpu", fullgraph=True)(x)
        torch.testing.assert_close(found.cpu(), torch.full((3,), 4.0))
        assert x[0] == 2 if writes else x[0] == 1


def test_a_custom_operator_runs_by_its_lowering_in_eager_on_the_device():
    operator = torch.library.custom_op(
        "own_tests_writes::numpy",
        lambda x: torch.from_numpy(x.numpy() * 2),
        mutates_args=(),
        schema="(Tensor x) -> Tensor",
    )
    operator.register_fake(torch.empty_like)
    tpu_dynamo.lowers(operator._opoverload)(lambda x: x * 2)
    torch.testing.assert_close(operator(torch.ones(2, device="tpu")).cpu(), torch.full((2,), 2.0))
    assert not tpu_dynamo.stats().fallbacks


PROGRAM = """
    import torch, tpu_dynamo
    @torch.library.custom_op("written::add", mutates_args=("total",))
    def add(total: torch.Tensor, x: torch.Tensor) -> None: total += x
    @tpu_dynamo.lowers(torch.ops.written.add.default, language="{language}")
    def lower(total, x): return {body}
    def function(total, x):
        add(total[1:], x)
        return total * 2
    total = torch.ones(3)
    torch.compile(function, backend="tpu", fullgraph=True)(total, torch.ones(2))
    print(total.tolist()[-1], tpu_dynamo.stats().lowerings)
"""


@pytest.mark.slow  # processes
@pytest.mark.parametrize(
    ("language", "body", "changed"),
    [
        ("torch", "[total.add_(x), None][1]", "[total.add_(x * 2), None][1]"),
        ("jax", "total + x", "total + x * 2"),
    ],
    ids=["torch", "jax"],
)
def test_another_process_finds_the_program_and_a_changed_lowering_is_a_miss(tmp_path, language, body, changed):
    def run(body: str) -> list[float]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(PROGRAM.format(language=language, body=body)))
        command = [sys.executable, "-W", "ignore", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
        return [float(word) for word in done.stdout.split()]

    assert run(body) == [2, 1]
    assert run(body) == [2, 0]
    assert run(changed) == [3, 1]
