"""Files of kernels/ and rewrites/ are found by themselves, in any order, also in a zip file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tpu_dynamo_lowering
from tpu_dynamo_lowering import all_lowerings, fingerprint

PACKAGE = Path(tpu_dynamo_lowering.__file__).parent

# Imported first, since it comes first in the alphabet; every other file of its folder is then imported in reverse.
BACKWARDS = """
from importlib import import_module
from pkgutil import iter_modules
import sys
import torch
from ..table import {decorator}

for _name in sorted((module.name for module in iter_modules(sys.modules[__package__].__path__)), reverse=True):
    import_module(f"{{__package__}}.{{_name}}")


@{decorator}(torch.ops.aten.{operator}.default)
def new(self, *args):
    \"\"\"The operator of a new file.\"\"\"
"""

PRINT = """
import json
from tpu_dynamo_lowering import all_lowerings, fingerprint
rows = sorted([str(l.overload), str(l.how), l.reason, l.function.__module__] for l in all_lowerings())
print(json.dumps([rows, fingerprint.code_digest()]))
"""


@pytest.mark.parametrize("folder", ["kernels", "rewrites"])
def test_every_file_is_imported(folder):
    files = {f"tpu_dynamo_lowering.{folder}.{path.stem}" for path in (PACKAGE / folder).glob("*.py")}
    assert files - {f"tpu_dynamo_lowering.{folder}.__init__"} <= sys.modules.keys()


def test_new_files_are_found_in_a_zip_file_and_the_order_does_not_matter(tmp_path):
    archive = tmp_path / "lowering.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for path in PACKAGE.rglob("*.py"):
            written.write(path, path.relative_to(PACKAGE.parent))
        for folder, decorator, operator in (("kernels", "kernel", "_foobar"), ("rewrites", "rewrites", "_fw_primal")):
            text = BACKWARDS.format(folder=folder, decorator=decorator, operator=operator)
            written.writestr(f"tpu_dynamo_lowering/{folder}/a_new_file.py", text)
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, digest = json.loads(done.stdout)
    new = [["aten._foobar.default", "kernel"], ["aten._fw_primal.default", "rewrite"]]
    assert [row[:2] for row in rows if row[3].endswith("a_new_file")] == new
    ours = sorted(
        [str(each.overload), str(each.how), each.reason, each.function.__module__] for each in all_lowerings()
    )
    others = [row for row in rows if not row[3].endswith("a_new_file")]
    assert [row for row in others if row not in ours] == [
        ["aten._fw_primal_copy.default", *next(row[1:] for row in ours if row[0] == "aten.t_copy.default")]
    ], "the new rewrite is of a view, whose copy needs one"
    assert [row for row in ours if row not in others] == []
    assert digest != fingerprint.code_digest()
    assert digest != hashlib.sha256().hexdigest(), "the files in the archive are part of the digest"
