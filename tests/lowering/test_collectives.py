"""Collectives as StableHLO: on several devices of one process, with other values on each, and as text."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest
import torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxlib import _jax, xla_client

import tpu_dynamo
from tests.lowering.graphs import traced
from tpu_dynamo_lowering import UnsupportedOp, jax_compat, lower, prepare
from tpu_dynamo_lowering.kernels import collectives

c10d = torch.ops._c10d_functional
RANKS = 8
ALL, PAIRS, STEPS = "0,1,2,3,4,5,6,7", "0,1|2,3|4,5|6,7", "0,2|1,3|4,6|5,7"


@pytest.fixture(scope="module")
def run_on_all():
    """Run a function with collectives on eight devices: takes and returns each rank's tensors."""
    client = xla_client.make_cpu_client(asynchronous=False, num_devices=RANKS)
    devices = client.local_devices()
    sharding = NamedSharding(Mesh(np.array(devices), ("ranks",)), PartitionSpec("ranks"))

    def run(function, *inputs):
        program = lower(prepare(traced(function, *(each[0] for each in inputs))), {}, platform="cpu", replicas=RANKS)
        options = _jax.CompileOptions()
        options.num_replicas = options.executable_build_options.num_replicas = RANKS
        assignment = xla_client.DeviceAssignment.create(np.arange(RANKS)[:, None])
        options.device_assignment = options.executable_build_options.device_assignment = assignment
        executable = client.compile_and_load(program.stablehlo, _jax.DeviceList(tuple(devices)), options)
        operands = []
        for argument in program.arguments:
            shards = [each.numpy() for each in inputs[argument.position]]
            whole = jax.core.ShapedArray((RANKS * shards[0].shape[0], *shards[0].shape[1:]), shards[0].dtype)
            operands.append(_jax.batched_device_put(whole, sharding, shards, list(devices), enable_x64=True))
        results = executable.execute_sharded(operands).disassemble_into_single_device_arrays()
        return [[torch.from_numpy(np.array(shard)) for shard in each] for each in results]

    return run


def each_rank(dtype=torch.float32):
    return [(torch.arange(16).view(8, 2) * (rank + 1) - 3).to(dtype) for rank in range(RANKS)]


def groups_of(text):
    return [list(map(int, group.split(","))) for group in text.split("|")]


REDUCTIONS = {
    "sum": lambda x: x.sum(0),
    "avg": lambda x: x.mean(0),
    "product": lambda x: x.prod(0),
    "min": lambda x: x.amin(0),
    "max": lambda x: x.amax(0),
    "band": lambda x: x[0] & x[1],
    "bor": lambda x: x[0] | x[1],
    "bxor": lambda x: x[0] ^ x[1],
}


@pytest.mark.parametrize("groups", [PAIRS, STEPS], ids=["neighbours", "steps"])
def test_reductions_of_groups(run_on_all, groups):
    """All reductions in one program, whole and scattered."""
    inputs, integers = each_rank(), each_rank(torch.int32)
    kinds = [op for op in REDUCTIONS if op not in ("band", "bor", "bxor")]
    bits = [op for op in REDUCTIONS if op in ("band", "bor", "bxor")]

    def compute(x, n):
        whole = [c10d.all_reduce(x, op, groups) for op in kinds] + [c10d.all_reduce(n, op, groups) for op in bits]
        shares = [c10d.reduce_scatter_tensor(x, op, 2, groups) for op in kinds]
        return [c10d.wait_tensor(each) for each in (*whole, *shares)]

    found = run_on_all(compute, inputs, integers)
    for group in groups_of(groups):
        floats, whole = (torch.stack([values[rank] for rank in group]) for values in (inputs, integers))
        wanted = [REDUCTIONS[op](floats) for op in kinds] + [REDUCTIONS[op](whole) for op in bits]
        for place, rank in enumerate(group):
            shares = [each.chunk(2)[place] for each in wanted[: len(kinds)]]
            for ours, theirs in zip(found, (*wanted, *shares), strict=True):
                torch.testing.assert_close(ours[rank], theirs)


def test_moves_within_groups(run_on_all):
    """Gathers, exchanges and broadcasts, of one and of several tensors, keep every bit."""
    inputs = each_rank()
    inputs[2][0, 0], inputs[2][0, 1] = -0.0, float("nan")

    def compute(x):
        return [
            c10d.all_gather_into_tensor(x, 2, STEPS),
            *c10d.all_gather_into_tensor_coalesced([x, x + 1], 2, STEPS),
            c10d.all_to_all_single(x, [4, 4], [4, 4], STEPS),
            c10d.broadcast(x, 1, STEPS),
            torch.ops._c10d_functional.all_reduce_coalesced([x, x * 2], "max", PAIRS)[1],
            torch.ops.tpu_dynamo.value_of_rank([15, 13, 11, 9, 7, 5, 3, 1]) + 0 * x[0].long(),
        ]

    found = run_on_all(compute, inputs)
    for group in groups_of(STEPS):
        both = [inputs[rank] for rank in group]
        for place, rank in enumerate(group):
            wanted = [
                torch.cat(both),
                torch.cat(both),
                torch.cat(both) + 1,
                torch.cat([each.chunk(2)[place] for each in both]),
                both[1],
            ]
            for ours, theirs in zip(found, wanted, strict=False):
                assert ours[rank].view(torch.int32).equal(theirs.view(torch.int32))
    for rank in range(RANKS):
        assert found[6][rank].tolist() == [15 - 2 * rank] * 2


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64, torch.complex64], ids=str)
def test_dtypes(run_on_all, dtype):
    inputs = each_rank(dtype)

    def compute(x):
        return [c10d.all_reduce(x, "sum", ALL), c10d.broadcast(x, 3, ALL), c10d.all_gather_into_tensor(x, RANKS, ALL)]

    total, sent, gathered = run_on_all(compute, inputs)
    wanted = torch.stack(inputs).sum(0).to(dtype)
    for rank in range(RANKS):
        torch.testing.assert_close(total[rank], wanted)
        assert sent[rank].equal(inputs[3]) and gathered[rank].equal(torch.cat(inputs))


def test_a_step_whose_weights_are_shared_out_equals_one_device(run_on_all):
    """Gathered rows, a part of the batch each, gradients scattered, and momentum of a rank's own rows."""
    torch.manual_seed(0)
    weight, momentum, x, y = torch.randn(16, 4), torch.randn(16, 4), torch.randn(24, 4), torch.randn(24, 16)

    def update(weight, momentum, gradient):
        momentum = 0.9 * momentum + gradient
        return weight - 0.1 * momentum, momentum

    def step(rows, momentum, x, y):
        whole = c10d.wait_tensor(c10d.all_gather_into_tensor(rows, RANKS, ALL))
        error = x @ whole.t() - y
        gradient = c10d.reduce_scatter_tensor(2 * error.t() @ x / error.numel(), "avg", RANKS, ALL)
        loss = c10d.all_reduce(error.square().mean(), "avg", ALL)
        return [c10d.wait_tensor(loss), *update(rows, momentum, c10d.wait_tensor(gradient))]

    loss, rows, moments = run_on_all(step, *([*each.chunk(RANKS)] for each in (weight, momentum, x, y)))
    leaf = weight.clone().requires_grad_()
    wanted = torch.nn.functional.mse_loss(x @ leaf.t(), y)
    wanted.backward()
    for ours, theirs in zip((torch.cat(rows), torch.cat(moments)), update(weight, momentum, leaf.grad), strict=True):
        torch.testing.assert_close(ours, theirs)
    for each in loss:
        torch.testing.assert_close(each, wanted.detach())


@pytest.mark.parametrize(
    "call, why",
    [
        (lambda x: c10d.all_reduce(x, "median", ALL), "no collective reduces by 'median'"),
        (lambda x: c10d.all_reduce(x.long(), "avg", ALL), "sum, and divide what comes out"),
        (lambda x: c10d.reduce_scatter_tensor(x[:3], "sum", RANKS, ALL), "3 rows cannot be scattered over 8 ranks"),
        (lambda x: c10d.all_to_all_single(x, [1, 3], [1, 3], PAIRS), "pad them to equal ones"),
        (lambda x: c10d.isend(x, 1, 0, ALL), "send and receive between compiled functions"),
        (lambda x: c10d.irecv(x, 1, 0, ALL), "send and receive between compiled functions"),
        (lambda x: c10d.batch_p2p_ops(["isend"], [1], [0], [x], ALL), "send and receive between compiled functions"),
    ],
    ids=["unknown", "average-of-integers", "rows", "uneven", "send", "receive", "both"],
)
def test_what_has_no_meaning_is_refused(call, why):
    with pytest.raises(UnsupportedOp, match=why):
        lower(prepare(traced(call, torch.ones(8, 2))), {}, platform="cpu", replicas=RANKS)


def test_a_program_names_replicas_and_no_channels():
    program = lower(
        prepare(traced(lambda x: c10d.all_reduce(x, "sum", PAIRS), torch.ones(4))), {}, platform="tpu", replicas=RANKS
    )
    text = program.text()
    groups = "[[0, 1], [2, 3], [4, 5], [6, 7]]"
    assert f"replica_groups = dense<{groups}>" in text
    assert "channel" not in text and "global_device_ids" not in text
    assert program.replicas == RANKS
    assert any("all_reduce" in line and groups in line for line in program.outline())
    assert tpu_dynamo


def test_tpus_sum_over_all_ranks_in_stages():
    """Every second rank, then pairs: the same shares as at once, and no instruction over the whole group."""
    ranks = 16
    client = xla_client.make_cpu_client(asynchronous=False, num_devices=ranks)
    devices = tuple(client.local_devices())
    options = _jax.CompileOptions()
    options.num_replicas = options.executable_build_options.num_replicas = ranks
    assignment = xla_client.DeviceAssignment.create(np.arange(ranks)[:, None])
    options.device_assignment = options.executable_build_options.device_assignment = assignment
    shape = jax.ShapeDtypeStruct((2 * ranks, 3), np.float32)
    function = partial(collectives._sum_in_stages, groups=[list(range(ranks))])
    module = jax_compat.lower_function(lambda x: (function(x),), [shape], "cpu", ranks)
    executable = client.compile_and_load(jax_compat.to_bytecode(module), _jax.DeviceList(devices), options)
    values = np.arange(ranks * 2 * ranks * 3, dtype=np.float32).reshape(ranks, 2 * ranks, 3) % 101
    sharding = NamedSharding(Mesh(np.array(devices), ("ranks",)), PartitionSpec("ranks"))
    whole = jax.core.ShapedArray((ranks * 2 * ranks, 3), np.float32)
    given = [_jax.batched_device_put(whole, sharding, list(values), list(devices), enable_x64=True)]
    (found,) = executable.execute_sharded(given).disassemble_into_single_device_arrays()
    np.testing.assert_array_equal(np.concatenate([np.asarray(share) for share in found]), values.sum(0))


def test_stages_are_for_tpus_and_all_ranks():
    def compute(x, groups):
        return c10d.wait_tensor(c10d.reduce_scatter_tensor(x, "sum", len(groups_of(groups)[0]), groups))

    def scatters(platform, groups):
        graph = prepare(traced(partial(compute, groups=groups), torch.zeros(32, 3)))
        return lower(graph, {}, platform=platform, replicas=16).text().count("stablehlo.reduce_scatter")

    every = ",".join(map(str, range(16)))
    halves = "|".join(",".join(map(str, range(start, 16, 2))) for start in (0, 1))
    assert [scatters("cpu", every), scatters("tpu", every), scatters("tpu", halves)] == [1, 2, 1]
