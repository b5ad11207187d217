"""Views: text, JSON under its schema, SARIF, annotations; harm in source text is shown and not done."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from pydantic import BaseModel
from sarif_pydantic import Sarif

from tests.diagnostics.breaking_models import CASES, Branch, Item, Print
from tests.diagnostics.reports import HOSTILE, hostile, large
from tests.diagnostics.runs import watch
from tpu_dynamo.diagnostics.baseline import compare, failing
from tpu_dynamo.diagnostics.model import CacheLookup, CacheMiss, Report, ReportedRun
from tpu_dynamo.diagnostics.redaction import redact
from tpu_dynamo.diagnostics.report_files import write
from tpu_dynamo.diagnostics.views.github import as_annotations
from tpu_dynamo.diagnostics.views.json_file import as_json, read_json, schema
from tpu_dynamo.diagnostics.views.sarif import as_sarif
from tpu_dynamo.diagnostics.views.terminal import as_text

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def report():
    def work():
        with torch.no_grad():
            for model in (Branch(), Item(), Print()):
                torch.compile(model, backend="eager")(torch.rand(2, 5, 8))
            compiled = torch.compile(lambda x: x + 1, backend="eager")
            compiled(torch.ones(3))
            compiled(torch.ones(4))

    return watch(work).report


def test_the_first_line_says_it_all_and_each_change_has_its_carets(report):
    text = as_text(report)
    assert re.match(r"3 graph breaks and 1 recompile, 8 graphs: about [\d.]+ m?s of [\d.]+ m?s compile time", text)
    lines = text.splitlines()
    for case in (CASES["branch"], CASES["item"], CASES["print"]):
        ((at, line),) = [(i, line) for i, line in enumerate(lines) if case.text in line and "^" not in line]
        assert lines[at + 1] == " " * line.index(case.text) + "^" * len(case.text)
    assert "torch._dynamo.mark_dynamic(x, 0, min=3, max=4)" in " ".join(text.split())


def test_a_notebook_prints_the_text_too(report, monkeypatch):
    plain = as_text(report)
    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setattr(builtins, "get_ipython", shell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter sets it
    assert as_text(report) == plain
    assert "\x1b" not in plain


def test_json_follows_the_published_schema(report):
    published = json.loads(SCHEMA.read_text())
    assert published == json.loads(json.dumps(schema())), "run: python -m tests.diagnostics.schema"
    jsonschema.Draft202012Validator(published).validate(json.loads(as_json(report)))


def unknown_properties(model: BaseModel, path: str = "") -> list[str]:
    found = [f"{path}.{name}" for name in model.model_extra or {}]
    for name in type(model).model_fields:
        value = getattr(model, name)
        for at, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, BaseModel):
                found += unknown_properties(item, f"{path}.{name}[{at}]")
    return found


@pytest.mark.parametrize("made", ["real", "hostile"])
def test_sarif_follows_the_standard(made, report, tmp_path):
    """By a model of SARIF 2.1.0 in which no property may be left over; the JSON schema itself is in no package."""
    text = as_sarif(report if made == "real" else hostile(tmp_path), Path(__file__).parents[2])
    log = Sarif.model_validate_json(text)
    # What sarif-pydantic has no fields for, all of it in the standard.
    beyond = {"columnKind", "originalUriBaseIds", "relatedLocations", "ruleIndex", "help", "helpUri", "uriBaseId", "id"}
    assert {path.rsplit(".", 1)[1] for path in unknown_properties(log)} <= beyond
    (run,) = json.loads(text)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        for location in result["locations"]:
            region = location["physicalLocation"]["region"]
            assert region["startLine"] >= 1
            assert region.get("endColumn", 2) >= region.get("startColumn", 1) >= 1
            assert re.fullmatch(r"[\w.~%!$&'()*+,;=:@/-]*", location["physicalLocation"]["artifactLocation"]["uri"])


def test_sarif_has_paths_from_the_root_columns_and_fingerprints(report):
    (run,) = json.loads(as_sarif(report, Path(__file__).parents[2]))["runs"]
    by_mark = {r["partialFingerprints"]["tpuDynamo/v1"]: r for r in run["results"]}
    assert set(by_mark) == {found.fingerprint for found in (*report.breaks, *report.recompiles)}
    for found in report.breaks:
        place = by_mark[found.fingerprint]["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "tests/diagnostics/breaking_models.py", "uriBaseId": "SRCROOT"}
        columns = {"startLine", "startColumn", "endColumn"}
        assert {k: v for k, v in place["region"].items() if k in columns} == {
            "startLine": found.place.line, "startColumn": found.place.column, "endColumn": found.place.end_column,
        }  # fmt: skip
        assert by_mark[found.fingerprint]["ruleId"] == found.code


def test_annotations_name_file_line_and_columns(report):
    lines = as_annotations(report).splitlines()
    assert len(lines) == 4
    found = next(b for b in report.breaks if b.code == "GB0124")
    (line,) = [line for line in lines if "GB0124" in line]
    assert line.startswith("::warning file=")
    assert f",line={found.place.line},endLine={found.place.line},col={found.place.column}," in line


def test_harm_is_shown_and_not_done_in_text(tmp_path):
    text = as_text(hostile(tmp_path))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert "\\x1b[31mred" in text
    assert "[bold]" in text
    assert max(map(len, text.splitlines())) < 2000
    annotations = as_annotations(hostile(tmp_path)).splitlines()
    assert all(line.startswith(("::warning ", "::error ", "::notice ")) for line in annotations)
    assert all("%0A::error" not in line for line in annotations)


def test_harm_survives_json(tmp_path):
    report = hostile(tmp_path)
    write(report, tmp_path / "run.json", ".json")
    read = read_json(tmp_path / "run.json")
    assert read.breaks[0].explanation.endswith(HOSTILE)
    assert read.breaks[0].stack[0].file == "<stdin>\\udcff"


def test_redaction_leaves_no_code_name_path_or_value(report, tmp_path):
    shared = as_json(redact(report)) + as_text(redact(report))
    own = (
        "breaking_models",
        "h.norm",
        "h.abs",
        "hidden",
        "attend",
        str(tmp_path.parent.parent),
        "tests/",
        str(Path(__file__).parent),
    )
    assert not [word for word in own if word in shared]
    assert [b.code for b in redact(report).breaks] == [b.code for b in report.breaks]
    assert [b.place.line for b in redact(report).breaks] == [b.place.line for b in report.breaks]


def test_redaction_leaves_no_names_in_what_the_cache_missed():
    miss = CacheMiss(("Secret, forward",), "secret has shape (3,), was (2,)", ("guard L['secret'] ...",))
    found = Report(ReportedRun("this process"), cache=(CacheLookup("signature", "miss", 1, miss.reasons, (miss,)),))
    assert "secret" in as_json(found)
    assert "secret" not in (as_json(redact(found)) + as_text(redact(found))).lower()
    assert redact(found).cache[0].count == 1


def test_a_baseline_tells_what_is_new(report):
    first, *others = report.breaks
    before = type(report)(report.run, tuple(others), report.recompiles)
    difference = compare(report, before)
    assert difference.new == (first,)
    assert not difference.gone
    assert compare(before, report).gone == (first.fingerprint,)
    assert failing(report, before, "new") == (first,)
    assert len(failing(report, before, "any")) == 4
    fundamental = [b for b in report.breaks if b.kind == "fundamental"]
    assert list(failing(report, None, "fundamental")) == fundamental != []
    assert not failing(report, report, "new")


def test_a_large_report_is_written_in_every_form(tmp_path):
    report = large(tmp_path, 60)
    for form in (".html", ".json", ".sarif", ".txt"):
        written = write(report, tmp_path / f"report{form}", form)
        assert written.stat().st_size < 1_000_000, form
    assert "… and 58 more" in (tmp_path / "report.txt").read_text()
    with pytest.raises(ValueError, match=r"'.pdf'.*\.html, \.json"):
        write(report, tmp_path / "report.pdf", ".pdf")
