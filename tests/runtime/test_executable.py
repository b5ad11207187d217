"""Executables: arguments in any memory order, results with their strides, runs and copies counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tpu_dynamo_lowering import jax_compat
from tpu_dynamo_runtime import (
    CopiedExecutable,
    Executable,
    Operand,
    Pool,
    ProgramInterface,
    Result,
    SharedExecutable,
    Traffic,
    client,
)


def identity(*shapes: tuple[int, ...]) -> bytes:
    """A program that returns its arguments."""
    types = [f"tensor<{'x'.join(map(str, shape))}xf32>" for shape in shapes]
    arguments = ", ".join(f"%x{i}: {t}" for i, t in enumerate(types))
    names = ", ".join(f"%x{i}" for i in range(len(types)))
    text = f"func.func @main({arguments}) -> ({', '.join(types)}) {{ return {names} : {', '.join(types)} }}"
    return jax_compat.to_bytecode(jax_compat.parse(text.encode(), jax_compat.new_context()))


def load(program: bytes, operands, results, copying: bool = False, constants=(), traffic=None) -> Executable:
    cpu, traffic = client("cpu"), traffic or Traffic()
    entry = Pool(lambda entry: entry.client.compile(entry.stablehlo), traffic).enter(cpu, program, "")
    kind = CopiedExecutable if copying else SharedExecutable
    return kind(entry, traffic, ProgramInterface(operands, results, constants=constants))


@pytest.mark.parametrize("copying", [False, True])
def test_a_permuted_argument_enters_in_its_memory_order_and_leaves_with_its_strides(copying):
    run = load(identity((4, 3)), [Operand(0, (1, 0))], [Result((4, 3), torch.float32, (1, 0))], copying=copying)
    x = torch.randn(4, 3).t()
    (out,) = run([x])
    torch.testing.assert_close(out, x)
    assert out.stride() == x.stride()


def test_positions_choose_among_the_inputs_and_constants_come_last():
    run = load(
        identity((2,), (3,)), [Operand(2)], [Result((n,), torch.float32) for n in (2, 3)], constants=[torch.ones(3)]
    )
    first, second = run([None, None, torch.zeros(2)])
    torch.testing.assert_close(first, torch.zeros(2))
    torch.testing.assert_close(second, torch.ones(3))


def test_results_never_share_memory_with_arguments_or_each_other():
    run = load(identity((64,), (64,)), [Operand(0), Operand(0)], [Result((64,), torch.float32)] * 2)
    x = torch.zeros(64)
    a, b = run([x])
    a.fill_(1)
    b.fill_(2)
    assert float(x.sum()) == 0
    assert float(a.sum()) == 64


def test_runs_and_copied_bytes_are_counted():
    traffic = Traffic()
    run = load(identity((8,)), [Operand(0)], [Result((8,), torch.float32)], traffic=traffic, copying=True)
    run([torch.zeros(8)])
    run([torch.zeros(8)])
    assert traffic == Traffic(executions=2, bytes_to_device=64, bytes_to_host=64)


def test_many_threads_may_call_one_executable():
    run = load(identity((1000,)), [Operand(0)], [Result((1000,), torch.float32)])
    with ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(lambda i: run([torch.full((1000,), float(i))])[0], range(200)))
    for i, out in enumerate(outputs):
        assert bool((out == i).all())
