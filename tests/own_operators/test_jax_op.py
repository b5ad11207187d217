"""JAX and Pallas functions as operators of PyTorch, against the same in plain PyTorch."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
import torch
from jax.experimental import pallas as pl

import tpu_dynamo


@tpu_dynamo.jax_op("own_tests::rope")
def rope(x: jax.Array, positions: jax.Array, base: float = 10000.0, *, turn: bool = False) -> jax.Array:
    half = x.shape[-1] // 2
    angles = positions[:, None] / base ** (jnp.arange(half) / half)
    cos, sin = (jnp.concatenate([f(angles)] * 2, -1) for f in (jnp.cos, jnp.sin))
    return x * cos + jnp.concatenate([-x[..., half:], x[..., :half]], -1) * (-sin if turn else sin)


def plain_rope(x, positions, base=10000.0):
    half = x.shape[-1] // 2
    angles = positions[:, None] / base ** (torch.arange(half, device=x.device) / half)
    cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _scale_block(x, factor, out):
    out[...] = x[...] * factor[...] + pl.program_id(0).astype(x.dtype)


@tpu_dynamo.jax_op("own_tests::scaled", differentiable=False)
def scaled(x: jax.Array, factor: jax.Array) -> jax.Array:
    block = pl.BlockSpec((8, 128), lambda i: (i, 0))
    return pl.pallas_call(
        _scale_block,
        grid=(x.shape[0] // 8,),
        in_specs=[block, pl.BlockSpec((1, 128), lambda i: (0, 0))],
        out_specs=block,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    )(x, factor)


def plain_scaled(x, factor):
    return x * factor + torch.arange(x.shape[0] // 8, device=x.device).repeat_interleave(8)[:, None]


@tpu_dynamo.jax_op("own_tests::powers")
def powers(xs: list[jax.Array], n: int = 2, names: str | None = None) -> list[jax.Array]:
    return [x**n for x in xs]


@tpu_dynamo.jax_op("own_tests::halves")
def halves(x: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    return x[:length], jnp.argsort(x[length:])


@tpu_dynamo.jax_op("own_tests::exponential", gradient=lambda x, n, results, gradients: gradients[0] * results[0] * n)
def exponential(x: jax.Array, n: int = 1) -> jax.Array:
    return jnp.exp(x * n)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_a_rotary_embedding_and_its_gradients_are_plain_pytorchs(device):
    x, positions = torch.randn(2, 5, 8, device=device, requires_grad=True), torch.arange(5, device=device)
    compiled = torch.compile(lambda x, p: rope(x.sin(), p, 100.0).cos(), backend="tpu", fullgraph=True)
    expected = plain_rope(x.sin(), positions, 100.0).cos()
    wanted = torch.autograd.grad(expected.square().sum(), x)
    for found in (rope(x.sin(), positions, base=100.0).cos(), compiled(x, positions)):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), x), wanted)
    assert not tpu_dynamo.stats().fallbacks


def test_gradients_can_be_differentiated():
    x, positions = torch.randn(3, 4, requires_grad=True, dtype=torch.float64), torch.arange(3)
    assert torch.autograd.gradgradcheck(lambda x: exponential(rope(x, positions), 2), x)


def test_one_graph_serves_all_sizes_and_a_function_that_needs_numbers_gets_them():
    compiled = torch.compile(lambda x: exponential(x, 2) + 1, backend="tpu", fullgraph=True, dynamic=True)
    for n in (3, 5, 6):
        x = torch.randn(2, n)
        torch.testing.assert_close(compiled(x), (2 * x).exp() + 1)
    assert tpu_dynamo.stats().graphs == {"inference": 1}
    compiled = torch.compile(lambda x, n: halves(x, n)[0] + 1, backend="tpu", fullgraph=True, dynamic=True)
    for n in (3, 5):
        torch.testing.assert_close(compiled(torch.arange(9.0), n), torch.arange(float(n)) + 1)


@tpu_dynamo.jax_op("own_tests::reshaped", differentiable=False)
def reshaped(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.concatenate([x, x]).reshape(-1), x[: x.shape[0] // 2, 1:]


def test_sizes_of_results_are_expressions():
    def function(x):
        flat, half = reshaped(x)
        return flat.sum() * flat.shape[0], half.shape[0] + half

    compiled = torch.compile(function, backend="tpu", fullgraph=True, dynamic=True)
    for rows, columns in ((4, 3), (6, 5), (7, 3)):
        x = torch.randn(rows, columns)
        half = x[: rows // 2, 1:]
        wanted = (torch.stack([x.sum() * 4 * rows * columns]), half.shape[0] + half)
        torch.testing.assert_close(compiled(x)[0][None], wanted[0])
        torch.testing.assert_close(compiled(x)[1], wanted[1])
    assert tpu_dynamo.stats().graphs == {"inference": 1}


def test_pallas_kernels_are_interpreted_on_the_cpu():
    x, factor = torch.randn(16, 128), torch.randn(1, 128)
    compiled = torch.compile(lambda x, f: scaled(x.sin(), f), backend="tpu", fullgraph=True)
    torch.testing.assert_close(scaled(x, factor), plain_scaled(x, factor))
    torch.testing.assert_close(compiled(x, factor), plain_scaled(x.sin(), factor))


def test_pallas_kernels_are_compiled_ahead_of_time_for_a_tpu_and_cost_by_line():
    def model(x, positions, factor):
        return scaled(rope(x, positions), factor)

    x, positions, factor = torch.randn(16, 128), torch.arange(16), torch.randn(1, 128)
    (graph,) = tpu_dynamo.compile_for(model, (x, positions, factor), target="v5e:2x2")
    assert graph.cost.unestimated["custom-call tpu_custom_call"] == 1
    assert any(f":{model.__code__.co_firstlineno + 1}" in str(line) for line in graph.cost.by_line())


def test_lists_scalars_and_integers_of_64_bits_stay_exact():
    xs = [torch.ones(2, requires_grad=True), torch.full((3,), 2**40 + 1), torch.ones((), dtype=torch.float64)]
    compiled = torch.compile(lambda xs: powers(xs, 1, names="n"), backend="tpu", fullgraph=True)
    for found in (powers(xs, 1), compiled(xs)):
        assert [each.dtype for each in found] == [torch.float32, torch.int64, torch.float64]
        assert found[1][0] == 2**40 + 1
    found[0].sum().backward()
    assert xs[0].grad.tolist() == [1, 1]
    first, order = halves(torch.tensor([3.0, 2, 1]), 1)
    assert (first.tolist(), order.tolist(), order.dtype) == ([3], [1, 0], torch.int32)


def test_complex_gradients_are_pytorchs():
    x = torch.randn(3, dtype=torch.complex64, requires_grad=True)
    wanted = torch.autograd.grad(x.pow(3).abs().sum(), x)
    torch.testing.assert_close(torch.autograd.grad(powers([x], 3)[0].abs().sum(), x), wanted)


def test_vmap_is_jaxs():
    xs, positions = torch.randn(3, 4, 5, 8, requires_grad=True), torch.arange(4)
    found = torch.func.vmap(lambda x: rope(x, positions), in_dims=2, out_dims=2)(xs)
    expected = plain_rope(xs.movedim(2, 1), positions).movedim(1, 2)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected.square().sum(), xs)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), xs), wanted)
    compiled = torch.compile(torch.func.vmap(lambda x: exponential(x) + 1), backend="tpu", fullgraph=True)
    torch.testing.assert_close(compiled(xs.detach()), xs.detach().exp() + 1)


def test_a_whole_step_has_the_operator_and_its_gradient():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)

        def forward(self, x):
            return exponential(self.inner(x)).sum()

    model, x = Model(), torch.randn(2, 4)
    ours = Model()
    ours.load_state_dict(model.state_dict())
    ours.to("tpu")
    model.inner(x).exp().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    tpu_dynamo.train_step(ours, torch.optim.SGD(ours.parameters(), 0.1))(x.to("tpu"))
    torch.testing.assert_close(ours.inner.weight.cpu(), model.inner.weight)


def test_an_operator_can_be_defined_again():
    for factor in (2, 3):
        again = tpu_dynamo.jax_op("own_tests::again")(lambda x: x * factor)
        torch._dynamo.reset()
        compiled = torch.compile(lambda x: again(x) + 1, backend="tpu", fullgraph=True)
        assert (again(torch.ones(1)).item(), compiled(torch.ones(1)).item()) == (factor, factor + 1)
        assert again(torch.ones(1, device="tpu")).item() == factor


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(lambda *xs: xs[0], "an operator has no \\*xs", id="varargs"),
        pytest.param(lambda: jnp.ones(2), "without a tensor", id="no-tensor"),
    ],
)
def test_a_signature_that_no_schema_says_is_refused(function, words):
    with pytest.raises(TypeError, match=words):
        tpu_dynamo.jax_op("own_tests::wrong")(function)


PROGRAM = """
    import jax, jax.numpy as jnp, torch, tpu_dynamo
    SCALE = {scale}
    def times(x): return x * SCALE
    @tpu_dynamo.jax_op("own_tests::stored")
    def stored(x: jax.Array) -> jax.Array: return jnp.sin(times(x))
    x = torch.ones(3, requires_grad=True)
    y = torch.compile(lambda x: stored(x) + 1, backend="tpu", fullgraph=True)(x)
    y.sum().backward()
    torch.testing.assert_close((y, x.grad), ((x * SCALE).sin() + 1, (x * SCALE).cos() * SCALE))
    print(tpu_dynamo.stats().lowerings)
"""


@pytest.mark.slow  # processes
def test_other_processes_find_the_program_until_what_it_calls_reads_another_number(tmp_path):
    def run(scale):
        (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM.format(scale=scale)))
        command = [sys.executable, "-W", "ignore", str(tmp_path / "program.py")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert [run(2.0), run(2.0), run(3.0)] == [2, 0, 2]
