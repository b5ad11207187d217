"""HLO text: what the parser reads, and what a program costs by it."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime.cost import LineCost, cost_of
from tpu_dynamo_runtime.hlo import parse_hlo
from tpu_dynamo_runtime.hlo_loops import trip_count


def estimated(cycles: int) -> str:
    return f', backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}},"note":"calls=%nothing, metadata={{op_name=\\"/no.py:1/x\\"}}"}}'


def named(line: int) -> str:
    return f', metadata={{op_name="/m.py:{line}/aten.mm.default/kernel/dot" stack_frame_id=3}}'


FUSED = f"""HloModule main, is_scheduled=true, entry_computation_layout={{(f32[8,128]{{1,0}})->f32[8,128]{{1,0}}}}

FileNames
1 "/m.py"

%fused (p0: f32[8,128], p1: s32[]) -> (f32[8,128], bf16[4]) {{
  %p0 = f32[8,128]{{1,0:T(8,128)}} parameter(0)
  %p1 = s32[]{{:T(128)}} parameter(1)
  %inner = f32[8,128]{{1,0:T(8,128)}} fusion(%p0), kind=kLoop, calls=%deeper{named(9)}{estimated(1000)}
  %half = bf16[4]{{0}} constant({{1, 2, 3, 4}})
  ROOT %both = (f32[8,128]{{1,0}}, /*index=1*/bf16[4]{{0}}) tuple(%inner, %half)
}}

ENTRY %main.1 (x: f32[8,128], n: s32[]) -> (f32[8,128], bf16[4]) {{
  %x = f32[8,128]{{1,0:T(8,128)}} parameter(0)
  %n = s32[]{{:T(128)}} parameter(1)
  %copy-start = (f32[8,128]{{1,0:T(8,128)S(1)}}, f32[8,128]{{1,0:T(8,128)}}, u32[]{{:S(2)}}) copy-start(%x)
  %copy-done = f32[8,128]{{1,0:T(8,128)S(1)}} copy-done(%copy-start)
  %sorted = f32[8,128]{{1,0:T(8,128)S(1)}} sort(%copy-done), dimensions={{1}}, to_apply=%compare{named(5)}
  %kernel = f32[8,128]{{1,0:T(8,128)S(1)}} custom-call(%sorted), custom_call_target="tpu_custom_call"
  ROOT %out = (f32[8,128]{{1,0}}, /*index=1*/bf16[4]{{0}}) fusion(%kernel, %n), kind=kLoop, calls=%fused{named(7)}{estimated(40)}
}}
"""
DEEPER = """
%deeper (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0} parameter(0)
  ROOT %bitcast = f32[8,128]{1,0} bitcast(%p)
}

%compare (a: f32[], b: f32[]) -> pred[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}
"""


def test_instructions_are_read_with_what_they_carry():
    module = parse_hlo(DEEPER + FUSED)
    out = module.entry.root
    assert (out.name, out.opcode, out.operands) == ("out", "fusion", ("kernel", "n"))
    assert out.called("calls") == ("fused",)
    assert out.source_line == ("/m.py", 7)
    assert out.cycles == 40
    assert [(a.elements, a.nbytes) for a in out.arrays] == [(1024, 4096), (4, 8)]
    assert [p.name for p in module.computations["fused"].parameters] == ["p0", "p1"]
    start = module.entry.instructions["copy-start"]
    assert [a.in_main_memory for a in start.arrays] == [False, True, False]
    assert start.source_line is None
    assert module.entry.instructions["sorted"].cycles is None
    assert module.computations["compare"].root.attribute("direction") == "LT"


@pytest.mark.parametrize(
    ("shape", "nbytes"),
    [
        ("pred[3]{0}", 3),
        ("s4[3]{0}", 2),
        ("c64[2]{0}", 16),
        ("f8e4m3fn[5]{0}", 5),
        ("token[]", 0),
        ("f32[<=4,2]{1,0}", 32),
        ("f64[0]{0}", 0),
    ],
)
def test_bytes_of_shapes(shape, nbytes):
    module = parse_hlo(f"ENTRY %main (x: {shape}) -> {shape} {{\n  ROOT %x = {shape} parameter(0)\n}}\n")
    assert sum(array.nbytes for array in module.entry.root.arrays) == nbytes


def test_text_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        parse_hlo("Traceback")


def test_a_fusion_counts_once_and_what_has_no_estimate_is_named():
    cost = cost_of(DEEPER + FUSED, flops=5)
    assert cost.cycles == 40
    assert cost.unestimated == {"sort": 1, "custom-call tpu_custom_call": 1}
    # The prefetch reads x for the line of the sort; the fusion writes both of its results.
    assert cost.by_line() == [
        LineCost("/m.py", 7, 40, 4096 + 8, unestimated=1),
        LineCost("/m.py", 5, 0, 4096, unestimated=1),
    ]
    assert cost.bytes_accessed == 2 * 4096 + 8
    assert cost.flops == 5


def test_an_estimate_that_is_the_largest_number_is_none():
    text = FUSED.replace(':"40"', f':"{2**63 - 1}"')
    cost = cost_of(DEEPER + text, 0)
    assert cost.cycles == 0
    assert cost.unestimated["tuple"] == 1


def test_text_without_estimates_has_no_cycles():
    text = "ENTRY %main (x: f32[8]) -> f32[8] {\n  %x = f32[8]{0} parameter(0)\n  ROOT %y = f32[8]{0} negate(%x)\n}\n"
    cost = cost_of(text, 8)
    assert (cost.cycles, cost.bytes_accessed, cost.unestimated) == (None, 64, {})
    assert cost.by_line() == [LineCost(None, None, None, 64)]


def loop(condition: str, start: str = "constant(0)", limit: str = "parameter(1)", step: str = "constant(1)") -> str:
    return f"""
%condition (s: (s32[], f32[8,128], s32[])) -> pred[] {{
  %s = (s32[], f32[8,128], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %ten = s32[] constant(10)
  %n = s32[] get-tuple-element(%s), index=2
  ROOT %more = pred[] {condition}
}}

%body (t: (s32[], f32[8,128], s32[])) -> (s32[], f32[8,128], s32[]) {{
  %t = (s32[], f32[8,128], s32[]) parameter(0)
  %j = s32[] get-tuple-element(%t), index=0
  %one = s32[] {step}
  %k = s32[] add(%j, %one)
  %a = f32[8,128] get-tuple-element(%t), index=1
  %b = f32[8,128] sine(%a){named(3)}{estimated(7)}
  %m = s32[] get-tuple-element(%t), index=2
  ROOT %u = (s32[], f32[8,128], s32[]) tuple(%k, %b, %m)
}}

ENTRY %main (x: f32[8,128], l: s32[]) -> f32[8,128] {{
  %x = f32[8,128] parameter(0)
  %l = s32[] {limit}
  %zero = s32[] {start}
  %again = s32[] copy(%zero)
  %v = (s32[], f32[8,128], s32[]) tuple(%again, %x, %l)
  %while = (s32[], f32[8,128], s32[]) while(%v), condition=%condition, body=%body
  ROOT %y = f32[8,128] get-tuple-element(%while), index=1
}}
"""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        pytest.param(loop("compare(%i, %ten), direction=LT"), 10, id="up"),
        pytest.param(loop("compare(%ten, %i), direction=GE"), 11, id="swapped"),
        pytest.param(loop("compare(%i, %ten), direction=LT", step="constant(3)"), 4, id="steps-of-three"),
        pytest.param(loop("compare(%i, %n), direction=LT", limit="constant(6)"), 6, id="carried-limit"),
        pytest.param(loop("compare(%i, %n), direction=NE", limit="constant(-6)", step="constant(-2)"), 3, id="down"),
        pytest.param(loop("compare(%i, %ten), direction=LT", start="constant(11)"), 0, id="never"),
        pytest.param(loop("compare(%i, %n), direction=LT"), None, id="depends-on-an-argument"),
        pytest.param(loop("compare(%i, %ten), direction=LT", step="constant(0)"), None, id="for-ever"),
    ],
)
def test_loops_count_as_often_as_they_run(text, steps):
    module = parse_hlo(text)
    assert trip_count(module, module.entry, module.entry.instructions["while"]) == steps
    cost = cost_of(text, 0)
    times = 1 if steps is None else steps
    assert cost.cycles == 7 * times
    assert cost.bytes_accessed == 2 * 4096 * times
    assert bool(cost.unestimated) == (steps is None)


def test_counters_of_64_bits_in_two_halves_are_counted():
    text = (
        loop("or(%negative, %below)")
        .replace(
            "  ROOT %more",
            "  %nought = s32[] constant(0)\n"
            "  %bits = s32[] bitcast-convert(%n)\n"
            "  %negative = pred[] compare(%bits, %nought), direction=LT\n"
            "  %none = pred[] compare(%n, %nought), direction=EQ\n"
            "  %few = pred[] compare(%i, %ten), direction=LT\n"
            "  %below = pred[] and(%none, %few)\n"
            "  ROOT %more",
        )
        .replace("parameter(1)", "constant(0)")
    )
    module = parse_hlo(text)
    assert trip_count(module, module.entry, module.entry.instructions["while"]) == 10


def test_the_dearest_branch_counts():
    text = f"""
%cheap (a: f32[8,128]) -> f32[8,128] {{
  %a = f32[8,128] parameter(0)
  ROOT %b = f32[8,128] negate(%a){named(1)}{estimated(10)}
}}

%dear (c: f32[8,128]) -> f32[8,128] {{
  %c = f32[8,128] parameter(0)
  ROOT %d = f32[8,128] sine(%c){estimated(30)}
}}

ENTRY %main (x: f32[8,128], p: s32[]) -> f32[8,128] {{
  %x = f32[8,128] parameter(0)
  %p = s32[] parameter(1)
  ROOT %y = f32[8,128] conditional(%p, %x, %x), branch_computations={{%cheap, %dear}}{named(4)}
}}
"""
    cost = cost_of(text, 0)
    # What has no line of its own in a branch is of the conditional's line.
    assert cost.by_line() == [LineCost("/m.py", 4, 30, 8192)]


def test_reading_rows_and_writing_in_place_count_as_what_is_moved():
    text = f"""
%rows (table: f32[1000,128], i: s32[4]) -> f32[4,128] {{
  %table = f32[1000,128]{{1,0}} parameter(0)
  %i = s32[4]{{0}} parameter(1)
  %same = f32[1000,128]{{1,0}} bitcast(%table)
  ROOT %taken = f32[4,128]{{1,0}} gather(%same, %i), offset_dims={{1}}
}}

%put (cache: f32[1000,128], row: f32[1,128], at: s32[]) -> f32[1000,128] {{
  %cache = f32[1000,128]{{1,0}} parameter(0)
  %row = f32[1,128]{{1,0}} parameter(1)
  %at = s32[] parameter(2)
  ROOT %new = f32[1000,128]{{1,0}} dynamic-update-slice(%cache, %row, %at, %at)
}}

ENTRY %main (t: f32[1000,128], n: s32[4], r: f32[1,128], p: s32[]) -> (f32[4,128], f32[1000,128]) {{
  %t = f32[1000,128]{{1,0}} parameter(0)
  %n = s32[4]{{0}} parameter(1)
  %r = f32[1,128]{{1,0}} parameter(2)
  %p = s32[] parameter(3)
  %read = f32[4,128]{{1,0}} fusion(%t, %n), kind=kCustom, calls=%rows{named(1)}
  %written = f32[1000,128]{{1,0}} fusion(%t, %r, %p), kind=kLoop, calls=%put{named(2)}
  ROOT %all = (f32[4,128]{{1,0}}, f32[1000,128]{{1,0}}) tuple(%read, %written)
}}
"""
    moved = {row.line: row.bytes_accessed for row in cost_of(text, 0).by_line()}
    assert moved == {1: 4 * 512 + 16 + 4 * 512, 2: 512 + 512}


def test_notes_of_kernels_on_several_lines_are_passed_over():
    notes = ', frontend_attributes={kernel_metadata={\n"xprof_metadata":"{\\"block_q\\": 512}"\n}}'
    config = ', backend_config={"custom_call_config":{"cost_estimate":{"flops":"230000","bytes_accessed":"1"}}}'
    text = FUSED.replace('custom_call_target="tpu_custom_call"', f'custom_call_target="tpu_custom_call"{notes}{config}')
    module = parse_hlo(text)
    assert set(module.entry.instructions) == set(parse_hlo(FUSED).entry.instructions)
    assert "cost_estimate" in module.entry.instructions["kernel"].config
