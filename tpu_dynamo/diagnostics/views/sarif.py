"""The report as SARIF 2.1.0, for code scanning and editors."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

from tpu_dynamo.diagnostics.codes import own_codes
from tpu_dynamo.diagnostics.model import Report, SourceSpan
from tpu_dynamo.diagnostics.printable import visible
from tpu_dynamo.diagnostics.summary import Change, changes

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(report: Report, root: Path | None = None) -> str:
    """Return the breaks, recompiles and unsupported operations as SARIF text; paths are relative to `root`."""
    root = root or Path.cwd()
    rules: dict[str, dict[str, Any]] = {}
    results = [_result(change, rules, report, root) for change in changes(report)]
    for found in report.unsupported:
        rules.setdefault(found.code, _rule(found.code, own_codes().get(found.code, found.code), None))
        text = f"{found.operation}: {found.why}. Try: {found.hint}"
        results.append(
            {
                "ruleId": found.code,
                "ruleIndex": list(rules).index(found.code),
                "level": "error",
                "message": {"text": visible(text)},
                "locations": [_location(found.place, root)] if found.place else [],
            }
        )
    version = report.run.versions.get("tpu-dynamo")
    driver: dict[str, Any] = {"name": "tpu-dynamo", "rules": list(rules.values())}
    if version:
        driver["version"] = version
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"uri": root.resolve().as_uri() + "/"}},
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1)


def _result(change: Change, rules: dict[str, dict[str, Any]], report: Report, root: Path) -> dict[str, Any]:
    found = next((b for b in report.breaks if b.fingerprint == change.mark), None)
    short = found.gb_type if found else own_codes().get(change.code, change.code)
    rules.setdefault(change.code, _rule(change.code, short, found.page if found else None))
    text = change.title if not change.advice else f"{change.title}. {change.advice.text}"
    if found is not None:
        text = f"{found.gb_type}: {text}"
    # A library's line is not in the user's repository; theirs that leads there is.
    main = change.own_place or change.place
    result: dict[str, Any] = {
        "ruleId": change.code,
        "ruleIndex": list(rules).index(change.code),
        "level": "note" if change.caused else "warning",
        "message": {"text": visible(text)},
        "locations": [_location(main, root)],
        "partialFingerprints": {"tpuDynamo/v1": change.mark},
    }
    others = [p for p in (found.stack if found else ()) if p != main]
    if others:
        result["relatedLocations"] = [
            _location(p, root) | {"id": i, "message": {"text": visible(p.function or p.file)}}
            for i, p in enumerate(others)
        ]
    return result


def _rule(code: str, short: str, page: str | None) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": code, "shortDescription": {"text": visible(short)}}
    if page:
        rule["helpUri"] = page
    else:
        rule["help"] = {"text": f"tpu-dynamo explain {code}"}
    return rule


def _location(found: SourceSpan, root: Path) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": max(1, found.line)}
    if found.column and found.end_column:
        region |= {"startColumn": found.column, "endColumn": max(found.end_column, found.column)}
    if found.text:
        region["snippet"] = {"text": visible(found.text)}
    return {"physicalLocation": {"artifactLocation": _artifact(found.file, root), "region": region}}


def _artifact(file: str, root: Path) -> dict[str, str]:
    """Return a file's URI: relative to the root where it is below it, else absolute; `<stdin>`, no path, as it is."""
    file = visible(file)
    if not os.path.isabs(file):
        return {"uri": _quoted(file)}
    below = os.path.relpath(file, root.resolve())
    if below.startswith(".."):
        return {"uri": PurePath(file).as_uri()}
    return {"uri": _quoted(PurePath(below).as_posix()), "uriBaseId": "SRCROOT"}


def _quoted(path: str) -> str:
    return PurePath("/" + path).as_uri().removeprefix("file:///")
