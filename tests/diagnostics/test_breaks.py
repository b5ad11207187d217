"""Breaks: each found once, at its line and columns, live and from a trace; the advised fix removes it."""

from __future__ import annotations

import textwrap

import pytest
import torch

from tests.diagnostics.breaking_models import CASES, Inlined, scaled
from tests.diagnostics.runs import agrees_with_dynamo, compiled_call, place_of, watch
from tpu_dynamo.diagnostics.fixes import FIXES
from tpu_dynamo.diagnostics.report_sources import read_report

CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def where(found):
    return found.place.file, found.place.line, found.place.column, found.place.end_column


@CASE
def test_a_break_is_found_once_where_it_is(case, tmp_path, monkeypatch):
    monkeypatch.setenv("LAST_LENGTH", "0")  # the case of a mutated dict writes to it
    with torch.no_grad():
        watched = watch(compiled_call(case.model(), torch.rand(2, 5, 8)))
    found, *others = sorted(watched.report.breaks, key=lambda b: b.kind == "caused")
    assert where(found) == place_of(case.function, case.text)
    assert [(b.code, b.caused_by) for b in others] == [(code, found.fingerprint) for code in case.follows]
    assert (found.code, found.kind, found.outcome) == (case.code, case.kind, case.outcome)
    assert found.advice is not None
    resumed = case.outcome == "resumed" and not case.follows
    assert found.cost.extra_graphs.value == (3 if case.model is Inlined else resumed)
    agrees_with_dynamo(watched)
    # The same from the text of a trace, which has no exceptions to ask for columns.
    (tmp_path / "dedicated_log_torch_trace_x.log").write_text(watched.trace)
    read = read_report(tmp_path).breaks
    assert [where(b) for b in read] == [where(b) for b in watched.report.breaks]
    assert [(b.fingerprint, b.met, b.kind) for b in read] == [
        (b.fingerprint, b.met, b.kind) for b in watched.report.breaks
    ]


@CASE
def test_the_advised_fix_removes_the_break(case, monkeypatch):
    monkeypatch.setenv("LAST_LENGTH", "0")  # the case of a mutated dict writes to it
    x = torch.rand(2, 5, 8)
    with torch.no_grad():
        watched = watch(compiled_call(case.fixed(), x))
        expected = case.model()(x)
        torch.testing.assert_close(case.fixed()(x), expected, check_dtype=False)
    assert not watched.report.breaks
    assert sum(c.graphs for c in watched.report.compiles) == 1
    agrees_with_dynamo(watched)


@pytest.mark.parametrize("fix", [f for f in FIXES if f.before], ids=lambda f: f"{f.code}-{f.title.replace(' ', '-')}")
def test_each_pattern_of_the_advice_breaks_before_and_not_after(fix, tmp_path):
    found = watch(lambda: run_pattern(fix.before, tmp_path / "before.py")).report.breaks
    own = [b for b in found if b.kind != "caused"]
    assert [b.code for b in own] == [fix.code]
    assert own[0].advice is not None
    assert own[0].advice.title == fix.title
    with torch._dynamo.config.patch(allow_rnn=torch._dynamo.config.allow_rnn):
        after = watch(lambda: run_pattern(fix.after, tmp_path / "after.py")).report
    assert not after.breaks
    assert sum(c.graphs for c in after.compiles) == 1


def test_a_hook_that_takes_itself_out_of_the_graph_as_those_of_fully_shard_do_is_named():
    model = torch.nn.Linear(3, 3)
    model.register_forward_pre_hook(lambda module, args: torch._dynamo.disable(lambda: args)())
    found = watch(lambda: torch.compile(model, backend="eager")(torch.rand(2, 3))).report.breaks
    assert "train_step" in " ".join(b.advice.text for b in found if b.advice is not None)


def run_pattern(source, file):
    file.write_text(source)
    imports = "import copy, logging, random, time, warnings, zlib\nimport numpy as np\nimport torch\n"
    names = {}
    exec(imports + "log = logging.getLogger('patterns')", names)
    exec(compile(source, str(file), "exec"), names)
    torch.compile(names["forward"], backend="eager")(torch.rand(3, 3))


def test_a_break_that_follows_from_another_says_so():
    def forward(x):
        return x + len(open("/dev/null").read())

    first, second = sorted(watch(compiled_call(forward, torch.rand(3))).report.breaks, key=lambda b: b.kind == "caused")
    assert (first.kind, second.kind) == ("user", "caused")
    assert second.caused_by == first.fingerprint
    assert place_of(forward, 'open("/dev/null")')[1:] == where(first)[1:]
    assert place_of(forward, 'open("/dev/null").read()')[1:] == where(second)[1:]


def test_a_break_in_a_loop_is_the_break_and_what_it_led_to():
    def forward(x):
        for step in range(2):
            print(step)
            x = x + step
        return x

    (found,) = watch(compiled_call(forward, torch.rand(3))).report.breaks
    assert (found.code, found.outcome, found.followed_by) == ("GB0059", "skipped", "graph break in loop")
    assert where(found) == place_of(forward, "print(step)")


def test_resume_functions_are_folded_in_the_stack():
    with torch.no_grad():
        (found,) = watch(compiled_call(Inlined(), torch.rand(2, 5, 8))).report.breaks
    assert not any("torch_dynamo_resume" in place.function for place in found.stack)
    assert [place.function for place in found.stack[-2:]] == ["forward", "scaled"]
    assert found.place.line == place_of(scaled, "h.mean().item()")[1]


def test_columns_count_characters_and_not_bytes(tmp_path):
    source = 'def forward(x):\n    name, factor = "größe 大", x.sum().item()\n    return x * factor\n'
    watched = watch(lambda: run_pattern(source, tmp_path / "wide.py"))
    (found,) = watched.report.breaks
    line = source.splitlines()[1]
    assert found.place.column == line.index("x.sum") + 1
    assert line[found.place.column - 1 : found.place.end_column - 1] == "x.sum().item()"
    (tmp_path / "trace.log").write_text(watched.trace)
    (read,) = read_report(tmp_path / "trace.log").breaks
    assert (read.place.column, read.place.end_column) == (found.place.column, found.place.end_column)


def test_files_in_other_encodings_are_read(tmp_path):
    source = '# coding: latin-1\ndef forward(x):\n    größe = "größe", x.sum().item()\n    return x * größe[1]\n'
    file = tmp_path / "latin.py"
    file.write_bytes(source.encode("latin-1"))

    def work():
        names = {}
        exec(compile(file.read_bytes(), str(file), "exec"), names)
        torch.compile(names["forward"], backend="eager")(torch.rand(3))

    (found,) = watch(work).report.breaks
    line = source.splitlines()[2]
    assert line[found.place.column - 1 : found.place.end_column - 1] == "x.sum().item()"
    assert found.excerpt.lines[2] == line


def test_the_lines_around_keep_their_numbers_where_some_are_empty(tmp_path):
    source = "\n\ndef forward(x):\n\n    print(x.shape)\n\n    return x + 1\n"
    (found,) = watch(lambda: run_pattern(source, tmp_path / "spaced.py")).report.breaks
    assert found.place.line == 5
    assert (found.excerpt.first_line, found.excerpt.lines) == (3, ("def forward(x):", "", "    print(x.shape)", ""))


def test_fingerprints_stay_when_lines_move(tmp_path):
    source = textwrap.dedent("""
        def forward(x):
            y = x + 1
            print(y.shape)
            return y
    """)
    (before,) = watch(lambda: run_pattern(source, tmp_path / "model.py")).report.breaks
    (tmp_path / "moved").mkdir()
    (after,) = watch(lambda: run_pattern("\n# more\n\n" + source, tmp_path / "moved" / "model.py")).report.breaks
    assert before.place.line + 3 == after.place.line
    assert before.fingerprint == after.fingerprint


def test_what_dynamo_counts_and_does_not_record_is_named():
    def numbers(x):
        yield x + 1

    watched = watch(lambda: list(torch.compile(numbers, backend="eager")(torch.rand(3))))
    assert [u.gb_type for u in watched.report.unrecorded] == ["Attempt to trace generator"]


def test_nothing_of_the_report_stays_behind():
    import logging

    logger = logging.getLogger("torch.__trace")
    before = list(logger.handlers)
    with pytest.raises(ZeroDivisionError):
        watch(lambda: 1 / 0)
    assert logger.handlers == before
