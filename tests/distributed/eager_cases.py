"""Every collective of torch.distributed on device tensors, against gloo on equal CPU tensors; run by each rank."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

import tpu_dynamo


def same(name, ours, theirs):
    ours = [each.cpu() for each in ours]
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, msg=lambda text: f"rank {dist.get_rank()}, {name}: {text}")


def values(rank, dtype=torch.float32, rows=4):
    found = torch.arange(rows * 3).view(rows, 3) + 2 * rank
    return found > 4 if dtype == torch.bool else (found - 3).to(dtype)


def on_both(function, *tensors):
    """Call a function on the CPU and on the device; it writes to its tensors and returns those to compare."""
    host = function(*(tensor.clone() for tensor in tensors))
    device = function(*(tensor.to("tpu") for tensor in tensors))
    return device, host


def writing(rank, size):
    x = values(rank)

    def all_reduce(op):
        def run(t):
            dist.all_reduce(t, op)
            return [t]

        return run

    def broadcast(t):
        dist.broadcast(t, size - 1)
        return [t]

    def all_gather(t):
        found = [torch.empty_like(t) for _ in range(size)]
        dist.all_gather(found, t)
        return found

    def all_gather_uneven(t):
        mine = t[: rank + 1].clone()
        found = [t.new_empty(i + 1, 3) for i in range(size)]
        for place, each in enumerate(found):  # gloo has equal shapes only
            if t.device.type == "cpu":
                each.copy_(mine if place == rank else each)
                dist.broadcast(each, place)
        if t.device.type == "tpu":
            dist.all_gather(found, mine)
        return found

    def all_gather_single(t):
        found = t.new_empty(size * 4, 3)
        dist.all_gather_into_tensor(found, t)
        return [found]

    def reduce(t):
        dist.reduce(t, 0)
        return [t] if rank == 0 else []

    def reduce_scatter(t):
        found = t.new_empty(4, 3)
        dist.reduce_scatter_tensor(found, t.repeat(size, 1))
        return [found]

    def reduce_scatter_list(t):
        if t.device.type == "cpu":  # not of gloo's
            wide = torch.stack([t * (i + 1) for i in range(size)])
            dist.all_reduce(wide)
            return [wide[rank]]
        found = torch.empty_like(t)
        dist.reduce_scatter(found, [t * (i + 1) for i in range(size)])
        return [found]

    def gather(t):
        found = [torch.empty_like(t) for _ in range(size)] if rank == 0 else None
        dist.gather(t, found, 0)
        return found or []

    def scatter(t):
        found = torch.empty_like(t)
        dist.scatter(found, [t + i for i in range(size)] if rank == 1 else None, 1)
        return [found]

    def all_to_all(t):
        found = torch.empty_like(t)
        dist.all_to_all_single(found, t)
        return [found]

    def all_to_all_uneven(t):
        # To rank j go j + 1 rows.
        given = values(rank, rows=sum(range(1, size + 1))).to(t.device)
        found = t.new_empty(size * (rank + 1), 3)
        dist.all_to_all_single(found, given, [rank + 1] * size, [j + 1 for j in range(size)])
        return [found]

    def view(t):
        column = t.t()[1]
        dense = column.clone() if t.device.type == "cpu" else column  # gloo takes it for dense
        dist.all_reduce(dense)
        column.copy_(dense)
        return [t]

    def parameter(t):
        weight = torch.nn.Parameter(t)
        dist.all_reduce(weight.data)
        with torch.no_grad():
            dist.broadcast(weight, 0)
        return [weight.detach()]

    def waited(t):
        dist.all_reduce(t, async_op=True).wait()
        return [t]

    def ring(t):
        """Both directions at once, as pipelines send."""
        found = torch.empty_like(t)
        after, before = (rank + 1) % size, (rank - 1) % size
        for work in dist.batch_isend_irecv([dist.P2POp(dist.isend, t, after), dist.P2POp(dist.irecv, found, before)]):
            work.wait()
        return [found]

    for op in ("SUM", "PRODUCT", "MIN", "MAX"):
        yield f"all_reduce {op}", *on_both(all_reduce(getattr(dist.ReduceOp, op)), x)
    for op in ("BAND", "BOR", "BXOR"):
        yield f"all_reduce {op}", *on_both(all_reduce(getattr(dist.ReduceOp, op)), values(rank, torch.int32))
    for dtype in (torch.int64, torch.float64, torch.bfloat16, torch.uint8, torch.int8):
        yield f"all_reduce {dtype}", *on_both(all_reduce(dist.ReduceOp.SUM), values(rank, dtype))
        yield f"broadcast {dtype}", *on_both(broadcast, values(rank, dtype))
    yield "broadcast bool", *on_both(broadcast, values(rank, torch.bool))
    cases = (
        broadcast, all_gather, all_gather_uneven, all_gather_single, reduce, reduce_scatter, reduce_scatter_list,
        gather, scatter, all_to_all, all_to_all_uneven, view, parameter, waited, ring,
    )  # fmt: skip
    for case in cases:
        yield case.__name__, *on_both(case, x)
    mean = x.to("tpu")
    dist.all_reduce(mean, dist.ReduceOp.AVG)
    yield "all_reduce AVG", [mean], [sum(values(i) for i in range(size)) / size]
    zeros = torch.tensor([-0.0, float("nan"), float("inf")]) if rank == 0 else torch.ones(3)
    signed = zeros.to("tpu")
    dist.broadcast(signed, 0)
    yield "bits", [signed.view(torch.int32)], [torch.tensor([-0.0, float("nan"), float("inf")]).view(torch.int32)]


def functional(rank, size, group):
    x, every = values(rank), [values(i) for i in range(size)]
    t = x.to("tpu")
    total = sum(every)
    yield "all_reduce", [funcol.all_reduce(t, "sum", group)], [total]
    yield "all_gather", [funcol.all_gather_tensor(t, 1, group)], [torch.cat(every, 1)]
    yield "reduce_scatter", [funcol.reduce_scatter_tensor(t, "sum", 0, group)], [total.chunk(size)[rank]]
    yield "broadcast", [funcol.broadcast(t, 1, group)], [every[1]]
    parts = [funcol.all_reduce_coalesced([t, t * 2], "max", group)][0]
    yield "all_reduce_coalesced", parts, [every[-1], every[-1] * 2]
    parts = funcol.all_gather_into_tensor_coalesced([t, t + 1], group)
    yield "all_gather_coalesced", parts, [torch.cat(every), torch.cat(every) + 1]
    parts = funcol.reduce_scatter_tensor_coalesced([t, t + 1], "sum", [0, 0], group)
    yield "reduce_scatter_coalesced", parts, [p.chunk(size)[rank] for p in (total, total + size)]
    rows = 4 // size
    found = funcol.all_to_all_single(t, [rows] * size, [rows] * size, group)
    yield "all_to_all", [found], [torch.cat([each[rank * rows : (rank + 1) * rows] for each in every])]
    yield (
        "permute",
        [funcol.permute_tensor(t.flatten(), [(i + 1) % size for i in range(size)], group)],
        [every[rank - 1].flatten()],
    )


def sharded(rank, size):
    mesh = init_device_mesh("tpu", (size,))
    whole = torch.arange(4.0 * size * size).view(2 * size, 2 * size)
    found = distribute_tensor(whole.to("tpu"), mesh, [Shard(0)])
    yield "shards", [found.to_local()], [whole.chunk(size)[rank]]
    yield "other shards", [found.redistribute(mesh, [Shard(1)]).to_local()], [whole.chunk(size, 1)[rank]]
    yield "whole", [found.redistribute(mesh, [Replicate()]).to_local()], [whole]
    uneven = torch.arange(3.0 * (size + 1)).view(size + 1, 3)
    found = distribute_tensor(uneven.to("tpu"), mesh, [Shard(0)])
    yield (
        "uneven shards",
        [found.to_local(), found.full_tensor()],
        [uneven.chunk(size)[rank] if rank < len(uneven.chunk(size)) else uneven[:0], uneven],
    )


def main():
    dist.init_process_group("cpu:gloo,tpu:tpu_dist")
    rank, size = dist.get_rank(), dist.get_world_size()
    count = 0
    subgroup = dist.new_group([0, size - 1])
    for cases in (writing(rank, size), functional(rank, size, dist.group.WORLD), sharded(rank, size)):
        for name, ours, theirs in cases:
            same(name, ours, theirs)
            count += 1
    if rank in (0, size - 1):
        t = torch.full((3,), float(rank), device="tpu")
        dist.all_reduce(t, group=subgroup)
        same("subgroup", [t], [torch.full((3,), size - 1.0)])
    objects = [None] * size
    dist.all_gather_object(objects, {"rank": rank, "text": "x" * rank})
    assert objects == [{"rank": i, "text": "x" * i} for i in range(size)]
    dist.barrier()
    for wrong in (lambda: dist.all_reduce(torch.ones(2, dtype=torch.int64, device="tpu"), dist.ReduceOp.AVG),):
        try:
            wrong()
        except NotImplementedError as error:
            assert "sum, and divide" in str(error)
        else:
            raise AssertionError("an average of integers")
    stats = tpu_dynamo.stats()
    print(f"{count} cases; {stats.xla_compiles} compiles, {stats.cache_hits}", file=sys.stderr)
    dist.destroy_process_group()


main()
