"""Writes docs/report.schema.json: `python -m tests.diagnostics.schema`."""

from __future__ import annotations

import json
from pathlib import Path

from tpu_dynamo.diagnostics.views.json_file import schema

if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "report.schema.json"
    path.write_text(json.dumps(schema(), indent=1) + "\n")
