"""Runs the notebooks of docs/notebooks and keeps their outputs in them: `python -m tests.docs.notebooks [NAME ...]`."""

from __future__ import annotations

import re
import signal
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from .pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"
# The file of a cell, as ipykernel names it.
_CELL = re.compile(r"(?:[\w/.]*/ipykernel_\d+/)?\b\d{6,}\.py")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a run in an empty folder; raises CellExecutionError.

    nbclient leaves handlers of signals behind, which are put back.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}})
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            client.execute()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return notebook


def plain(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without what names the machine or the moment: times of cells, the kernel's files, messages."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            if "text" in output:
                output.text = _CELL.sub("cell", output.text)
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = _CELL.sub("cell", text)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


def main() -> None:
    """Run the notebooks that are named, or all, and write them."""
    for path in NOTEBOOKS:
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            print(path.stem, flush=True)
            nbformat.write(plain(executed(path)), path)


if __name__ == "__main__":
    main()
