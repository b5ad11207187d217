"""The collectives that HLO says, in every spelling, and their bytes and times on the links of a topology."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import communication_of, find_topology
from tpu_dynamo_runtime.communication import axes_of
from tpu_dynamo_runtime.hlo_collectives import collectives_of, groups_of
from tpu_dynamo_runtime.interconnect import Interconnect

# A 4x4 slice, host by host.
PLACES = [(2 * (h % 2) + i % 2, 2 * (h // 2) + i // 2, 0) for h in range(4) for i in range(4)]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param("replica_groups={{0,2},{1,3}}", ((0, 2), (1, 3)), id="listed"),
        pytest.param("replica_groups={}", ((0, 1, 2, 3),), id="all"),
        pytest.param("dimensions={0}", ((0, 1, 2, 3),), id="none-said"),
        pytest.param("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3)), id="range"),
        pytest.param("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3)), id="transposed"),
        pytest.param("replica_groups=mesh['x'=2,'y'=2] {'x'}", ((0, 2), (1, 3)), id="mesh-outer"),
        pytest.param("replica_groups=mesh['x'=2,'y'=2] {'y'}", ((0, 1), (2, 3)), id="mesh-inner"),
        pytest.param("replica_groups=mesh['x'=4] {'x':(2)2}", ((0, 1), (2, 3)), id="mesh-part-of-an-axis"),
        pytest.param("replica_groups=mesh['x'=4] {'x':(1)2}", ((0, 2), (1, 3)), id="mesh-outer-part"),
        pytest.param("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0)), id="pairs"),
    ],
)
def test_groups_are_read_in_every_spelling(attributes, expected):
    assert groups_of(f"{attributes}, to_apply=%add", 4) == expected


def test_an_unknown_spelling_of_groups_is_an_error():
    with pytest.raises(ValueError, match="spelling"):
        groups_of("replica_groups=<something new>", 4)


HEAD = "HloModule main, replica_count=16\n\n%add (a: f32[], b: f32[]) -> f32[] {\n  ROOT %s = f32[] add(%a, %b)\n}\n\n"
NAMED = 'metadata={op_name="/p/model.py:7/aten.mm.default"}'


def module(body: str, others: str = "") -> str:
    parameters = "  %p = f32[64]{0} parameter(0)\n  %q = bf16[32]{0} parameter(1)\n"
    entry = f"ENTRY %main (p: f32[64], q: bf16[32]) -> f32[64] {{\n{parameters}{body}\n}}\n"
    return HEAD + others + entry


def found(body: str, others: str = "") -> list[tuple[str, int, int, bool]]:
    return [(c.kind, c.nbytes, c.times, c.asynchronous) for c in collectives_of(module(body, others))]


def test_a_combined_collective_is_one_of_each_tensor_with_its_own_line():
    body = (
        f"  %x = f32[64]{{0}} negate(%p), {NAMED}\n"
        "  ROOT %r = (f32[64]{0}, bf16[32]{0}) all-reduce(%x, %q), replica_groups={}, to_apply=%add"
    )
    assert found(body) == [("all-reduce", 256, 1, False), ("all-reduce", 64, 1, False)]
    assert collectives_of(module(body))[0].place == ("/p/model.py", 7)


def test_a_gather_counts_what_is_gathered_and_its_start_once():
    body = (
        "  %g = (f32[64]{0}, f32[1024]{0}) all-gather-start(%p), replica_groups={}, dimensions={0}\n"
        "  ROOT %d = f32[1024]{0} all-gather-done(%g)"
    )
    assert found(body) == [("all-gather", 1024 * 4, 1, True)]


def test_libtpus_chain_of_fusions_is_one_asynchronous_collective():
    step = (
        "%{name} (a: f32[64]) -> f32[1024] {{\n  %a = f32[64]{{0}} parameter(0)\n  ROOT %{name}.g = f32[1024]{{0}} "
        'all-gather(%a), replica_groups={{}}, dimensions={{0}}, frontend_attributes={{chain_id="3"}}\n}}\n\n'
    )
    body = (
        "  %s = f32[1024]{0} fusion(%p), kind=kCustom, calls=%begin\n"
        "  ROOT %e = f32[1024]{0} fusion(%p), kind=kCustom, calls=%end"
    )
    assert found(body, step.format(name="begin") + step.format(name="end")) == [("all-gather", 4096, 1, True)]


def test_libtpus_fusion_of_all_reduce_and_slice_is_a_reduce_scatter():
    inside = (
        "%ars (a: f32[64]) -> f32[4] {\n  %a = f32[64]{0} parameter(0)\n  %i = u32[] constant(0)\n"
        "  %r = f32[64]{0} all-reduce(%a), replica_groups={}, to_apply=%add\n"
        "  ROOT %d = f32[4]{0} dynamic-slice(%r, %i), dynamic_slice_sizes={4}\n}\n\n"
    )
    assert found("  ROOT %f = f32[4]{0} fusion(%p), kind=kCustom, calls=%ars", inside) == [
        ("reduce-scatter", 256, 1, False)
    ]


def test_collectives_of_loops_count_as_often_as_the_loops_run():
    loop = (
        "%body (t: (s32[], f32[64])) -> (s32[], f32[64]) {\n  %t = (s32[], f32[64]{0}) parameter(0)\n"
        "  %n = s32[] get-tuple-element(%t), index=0\n  %v = f32[64]{0} get-tuple-element(%t), index=1\n"
        "  %one = s32[] constant(1)\n  %m = s32[] add(%n, %one)\n"
        "  %w = f32[64]{0} collective-permute(%v), source_target_pairs={{0,1},{1,0}}\n"
        "  ROOT %out = (s32[], f32[64]{0}) tuple(%m, %w)\n}\n\n"
        "%cond (u: (s32[], f32[64])) -> pred[] {\n  %u = (s32[], f32[64]{0}) parameter(0)\n"
        "  %k = s32[] get-tuple-element(%u), index=0\n  %five = s32[] constant(5)\n"
        "  ROOT %c = pred[] compare(%k, %five), direction=LT\n}\n\n"
    )
    body = (
        "  %z = s32[] constant(0)\n  %in = (s32[], f32[64]{0}) tuple(%z, %p)\n"
        "  ROOT %l = (s32[], f32[64]{0}) while(%in), condition=%cond, body=%body"
    )
    assert found(body, loop) == [("collective-permute", 256, 5, False)]


def test_axes_are_those_that_groups_go_along():
    mesh, span = {"dp": 2, "tp": 4}, tuple(range(8))
    assert axes_of([(0, 1, 2, 3), (4, 5, 6, 7)], mesh, span) == "tp"
    assert axes_of([(0, 4), (1, 5)], mesh, span) == "dp"
    assert axes_of([tuple(range(8))], mesh, span) == "dp+tp"
    assert axes_of([(0, 1)], mesh, (3, 7)) == "dp"  # a program of two ranks, by its own numbers


def test_links_are_those_between_the_chips_of_a_group():
    slice_, link = Interconnect(find_topology("v5e:4x4"), PLACES), 50e9
    line = tuple(PLACES.index((x, 0, 0)) for x in range(4))
    assert slice_.bandwidth(line) == link  # no link from end to end
    assert slice_.bandwidth((0, 1, 2, 3)) == 2 * link  # a host of 2 x 2 chips
    assert slice_.bandwidth(tuple(range(16))) == 2 * link
    assert slice_.bandwidth((line[0], line[2])) == link / 2  # the chips in between have groups too
    pod = Interconnect(find_topology("v5e:16x16"), [(x, y, 0) for y in range(16) for x in range(16)])
    assert pod.bandwidth(tuple(range(16))) == 2 * link  # closed to a ring
    assert pod.bandwidth(tuple(range(256))) == 4 * link


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("all-gather", 0.75e9),
        ("reduce-scatter", 0.75e9),
        ("all-reduce", 1.5e9),
        ("all-to-all", 1e9),
        ("collective-permute", 2e9),
    ],
)
def test_times_are_those_of_rings(kind, seconds):
    slice_ = Interconnect(find_topology("v5e:4x4"), PLACES)
    groups = [(0, 1, 2, 3)] if kind != "collective-permute" else [(0, 1)]
    assert slice_.seconds(kind, groups, 10**9) == pytest.approx(seconds / 100e9)


def test_a_run_is_between_all_and_none_of_its_communication_hidden():
    hlo = module(f"  ROOT %r = f32[64]{{0}} all-reduce(%p), replica_groups={{}}, to_apply=%add, {NAMED}")
    communication = communication_of(hlo, 1500, find_topology("v5e:4x4"), PLACES, {"dp": 16}, tuple(range(16)))
    assert communication.compute == pytest.approx(1e-6)
    assert communication.total.nbytes == 2 * 256 * 15 // 16
    best, worst = communication.step
    assert best == communication.compute
    assert worst == pytest.approx(communication.compute + communication.total.seconds)
    assert communication.share == (0.0, pytest.approx(communication.total.seconds / worst))
    assert list(communication.by_axis()) == ["dp"]
    assert list(communication.by_line()) == [("/p/model.py", 7)]
