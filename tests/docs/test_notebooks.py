"""The notebooks run from top to bottom, and what is kept in them is of a whole run."""

from __future__ import annotations

import nbformat
import pytest

from tpu_dynamo_runtime import plugin_installed

pytest.importorskip("nbclient")
from .notebooks import NOTEBOOKS, executed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_are_of_one_whole_run(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    if path.stem == "five_chips" and not plugin_installed("tpu"):
        pytest.skip("compiles for TPUs, and libtpu is not installed")
    executed(path)
