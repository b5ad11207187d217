"""A function is called when a library is imported, not when somebody asks whether it is there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys

import pytest

from tpu_dynamo.integrations.on_import import when_imported


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Put a library of one file on the path; give its name."""
    (tmp_path / "tpu_dynamo_made_up.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield "tpu_dynamo_made_up"
    sys.modules.pop("tpu_dynamo_made_up", None)


def test_it_is_called_once_and_at_the_import(library):
    before, seen = list(sys.meta_path), []
    when_imported(library, lambda module: seen.append(module.value))
    for _ in range(2):
        assert importlib.util.find_spec(library).origin.endswith("made_up.py")
    assert seen == []
    module = importlib.import_module(library)
    assert seen == [1] and sys.meta_path == before
    assert type(module.__spec__.loader) is type(module.__loader__) is type(json.__loader__)
    when_imported(library, lambda module: seen.append("at once"))
    assert seen == [1, "at once"]


def test_a_library_that_is_not_there_stays_missing():
    before = list(sys.meta_path)
    when_imported("tpu_dynamo_nowhere", lambda module: None)
    assert importlib.util.find_spec("tpu_dynamo_nowhere") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tpu_dynamo_nowhere")
    sys.meta_path[:] = before
