"""The site is built without a warning, needs no network, and has each page as text too."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tpu_dynamo

from . import one_graph, reference
from .pages import PRESENT, ROOT, blocks, name_of

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site with the command of the papers, in strict mode, into a temporary folder."""
    pytest.importorskip("mkdocs_autorefs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", CONFIG, "-d", folder],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_lies_beside_its_markdown(site):
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 60
    assert not [page for page in pages if not page.with_suffix(".md").exists()]
    papers = [page for page in PRESENT if name_of(page).startswith("docs/")]
    assert not [page for page in papers if not (site / page.relative_to(ROOT / "docs")).exists()]


def test_text_for_machines_has_what_pages_have(site):
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    links = re.findall(r"\]\((\S+\.md)\)", listed)
    assert len(links) > 35
    assert not [link for link in links if not (site / link).exists()]
    assert "(training.md): Forward and backward are one executable each" in listed
    api = (site / "reference" / "api.md").read_text(encoding="utf-8")
    assert ":::" not in api
    assert "tpu_dynamo.compile_for(" in api


def test_no_page_loads_anything_from_elsewhere(site):
    loaded = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]+)\"")
    found = {url for page in site.rglob("*.html") for url in loaded.findall(page.read_text(encoding="utf-8"))}
    assert not found


def test_the_search_knows_the_pages(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if "decode_loop" in entry["text"]}
    assert {"decoding.html", "reference/api.html"} <= found


def test_every_public_name_is_in_the_reference_once():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: tpu_dynamo\.(?:\w+\.)*(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(tpu_dynamo.__all__) - {"__version__"})


@pytest.mark.parametrize("name", reference.PAGES)
def test_pages_of_the_reference_are_what_is_generated(name):
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run: python -m tests.docs.reference"


def test_the_page_of_variables_has_those_that_are_read():
    page = (reference.FOLDER / "environment.md").read_text(encoding="utf-8")
    sources = [
        path.read_text(encoding="utf-8")
        for top in ("tpu_dynamo", "lowering", "runtime")
        for path in ROOT.glob(f"{top}/**/*.py")
    ]
    read = {name for source in sources for name in re.findall(r"\bTPU_DYNAMO_[A-Z_]+[A-Z]\b", source)}
    assert set(re.findall(r"\bTPU_DYNAMO_[A-Z_]+[A-Z]\b", page)) == read


def test_the_drawn_graph_is_what_a_run_gives():
    """All but HLO, which is another on CPUs of other kinds."""
    forms = one_graph.forms(one_graph.rooms())
    before = "**HLO**"
    assert one_graph.written().partition(before)[0] == forms.partition(before)[0], "run: python -m tests.docs.one_graph"


def test_a_page_says_where_its_external_claims_are_from():
    """Guides that compare with other projects link to them."""
    for name, host in (("from_torch_xla", "docs.pytorch.org/xla"), ("from_torchax", "google/torchax")):
        assert host in (ROOT / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def test_the_diff_of_the_cuda_script_applies_to_it():
    page = ROOT / "docs" / "guides" / "from_cuda.md"
    (script,) = [block.text for block in blocks(page, "python") if block.text.startswith("# train_cuda.py")]
    (diff,) = [block.text for block in blocks(page, "diff")]
    removed = [line[1:] for line in diff.splitlines() if line.startswith("-") and not line.startswith("---")]
    assert removed
    assert all(line in script.splitlines() for line in removed)
