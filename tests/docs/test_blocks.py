"""Every block of Python and shell in the papers runs as it stands, or says why it is not run."""

from __future__ import annotations

import logging

import pytest
import torch

from tpu_dynamo_runtime import plugin_installed

from .pages import PRESENT, blocks, name_of
from .running import SHELLS, run, runnable, why_not

WITH_CODE = [page for page in PRESENT if runnable(page)]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    if "v5e" in page.read_text(encoding="utf-8") and not plugin_installed("tpu"):
        pytest.skip("compiles for a TPU, and libtpu is not installed")
    if any("torchao" in block.text for block in blocks(page, "python")):
        pytest.importorskip("torchao", reason="of the extra `ecosystem`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    logging.getLogger("tpu_dynamo").setLevel(logging.WARNING)
    torch.manual_seed(0)
    with torch.enable_grad():  # a page may turn gradients off
        run(page, tmp_path)


def test_a_block_that_is_not_run_says_why():
    short = [(name_of(page), block.line) for page in PRESENT for block in blocks(page, "python", *SHELLS)
             if 0 < len(why_not(page, block).split()) < 3]  # fmt: skip
    assert not short
