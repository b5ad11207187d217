"""Profiles of programs that were found compiled name the lines of the source as it is now, not as it was then."""

from __future__ import annotations

import importlib.util
import linecache
import re
import subprocess
import sys

import pytest
import torch

import tpu_dynamo
from tests.tpu_dynamo.test_cache import forget, made
from tpu_dynamo_runtime import Client, XlaRuntimeError

MODEL = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 256), torch.nn.Linear(256, 64)

    def forward(self, x):
        hidden = self.first(torch.tanh(x)) * x.shape[0]  # tanh
        hidden = hidden.softmax(-1)  # softmax
        return x + self.second(hidden).sort(-1)[0]  # sort
"""
MOVED = "# One\n# Two\n# Three\n" + MODEL.replace("# tanh\n", "# tanh\n\n        # between\n")


NAME = "moved_model"


@pytest.fixture(autouse=True)
def forgotten():
    """Leave no module behind."""
    yield
    sys.modules.pop(NAME, None)


def load(path, text=None):
    """Import a file, written anew, as a process does that has not seen it."""
    if text is not None:
        path.write_text(text)
    linecache.checkcache()
    spec = importlib.util.spec_from_file_location(NAME, path)
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.Model()


def profiled(model, *, training=False, dynamic=None, **options):
    """Profile a few calls of a model after the first ones, in the state of a new process."""
    forget()
    compiled = torch.compile(model, backend="tpu", dynamic=dynamic, options=options)

    def call():
        for length in (16, 24) if dynamic else (16,):
            with torch.set_grad_enabled(training):
                out = compiled(torch.ones(length, 64))
            if training:
                out.square().sum().backward()

    call()
    with tpu_dynamo.profile() as run:
        call(), call()
    return run.profile


def lines_of(profile, path):
    """Return the lines of a file that the device worked for."""
    return {row.line: row for row in profile.lines if row.file == str(path) and row.parts.get("execution")}


def assert_lines_are_the_sources(profile, path):
    """Fail if the device worked for a line of the file that is none of the three, or not for one of them."""
    text = path.read_text().splitlines()
    found = lines_of(profile, path)
    assert {text[line - 1].rpartition("# ")[2] for line in found} == {"tanh", "softmax", "sort"}
    for line, row in found.items():
        assert row.text == text[line - 1].strip()
    names = {each.operator.split(".")[1]: each.line for each in profile.operations if each.operator.startswith("aten")}
    assert text[names["sort"] - 1].endswith("# sort")
    for graph in profile.graphs:
        ((name, line),) = re.findall(r"\((\w+\.py):(\d+)\)", graph.name)
        assert (name, int(line)) in {(path.name, each) for each in found}
    assert not [note for note in profile.notes if "line" in note]


CASES = {
    "traced again": {"autograd_cache": False},
    "found by torch's cache": {},
    "training": {"training": True},
    "changing sizes": {"dynamic": True},
    "changing sizes in training": {"dynamic": True, "training": True},
}


@pytest.mark.parametrize("case", CASES)
def test_lines_that_moved_are_named_as_they_are(case, tmp_path):
    path = tmp_path / "model.py"
    assert_lines_are_the_sources(profiled(load(path, MODEL), **CASES[case]), path)
    before = tpu_dynamo.stats().graphs
    for moved in (MOVED, MODEL, "\n" + MOVED):
        assert_lines_are_the_sources(profiled(load(path, moved), **CASES[case]), path)
        assert made() == (0, 0)
        assert tpu_dynamo.stats().graphs == before
        if case != "traced again":
            assert set(tpu_dynamo.stats().autograd_cache) == {"hit"}


def test_two_places_that_share_a_program_have_a_profile_of_their_own(tmp_path):
    here, there = load(tmp_path / "here.py", MODEL), load(tmp_path / "there.py", MOVED)
    compiled = [torch.compile(model, backend="tpu") for model in (here, there)]
    with torch.no_grad():
        [each(torch.ones(16, 64)) for each in compiled]
        for each, path in zip(compiled, (tmp_path / "here.py", tmp_path / "there.py"), strict=True):
            with tpu_dynamo.profile() as run:
                each(torch.ones(16, 64))
            assert_lines_are_the_sources(run.profile, path)


def test_a_whole_step_names_its_lines(tmp_path):
    path = tmp_path / "model.py"
    for text in (MODEL, MOVED):
        forget()
        model = load(path, text).to("tpu")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = tpu_dynamo.train_step(model, optimizer, lambda y: y.square().sum())
        x = torch.ones(16, 64, device="tpu")
        step(x)
        with tpu_dynamo.profile() as run:
            step(x)
        assert {"tanh", "softmax", "sort"} == {
            row.text.rpartition("# ")[2] for row in lines_of(run.profile, path).values()
        }


def test_operations_of_one_line_that_became_two_are_told_apart_or_said_to_be_one(tmp_path):
    path = tmp_path / "model.py"
    profiled(load(path, MODEL))
    apart = MODEL.replace("self.first(torch.tanh(x))", "self.first(torch.tanh(x))  # first\n        hidden = hidden")
    found = lines_of(profiled(load(path, apart)), path).values()
    assert {row.text.rpartition("# ")[2] for row in found} == {"first", "softmax", "sort"}
    profiled(load(path, MODEL.replace("torch.tanh(x)", "torch.tanh(torch.tanh(x))")))
    apart = MODEL.replace(
        "hidden = self.first(torch.tanh(x))", "y = torch.tanh(x)\n        hidden = self.first(torch.tanh(y))"
    )
    (note,) = [note for note in profiled(load(path, apart)).notes if "line" in note]
    assert "model.py:10" in note


def test_what_xla_refuses_of_a_program_that_was_found_is_named_by_its_line_now(tmp_path, monkeypatch):
    path = tmp_path / "model.py"
    profiled(load(path, MODEL), autograd_cache=False)
    old = MODEL.splitlines().index("        return x + self.second(hidden).sort(-1)[0]  # sort") + 1

    def refuse(*args):
        raise XlaRuntimeError(f'UNIMPLEMENTED: not here; op_name="{path}:{old}/self/aten.sort.default"')

    monkeypatch.setattr(Client, "compile", refuse)
    monkeypatch.setattr(Client, "deserialise", refuse)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as refused:
        profiled(load(path, MOVED), autograd_cache=False)
    new = MOVED.splitlines().index("        return x + self.second(hidden).sort(-1)[0]  # sort") + 1
    assert new != old
    assert f"{path}:{new}" in str(refused.value)
    assert made()[0] == 0


@pytest.mark.slow
def test_another_process_in_another_checkout_names_its_own_lines(tmp_path):
    script = "from tests.profiling.test_moved_lines import *\nimport pathlib\n"
    script += "path = pathlib.Path(sys.argv[1])\nassert_lines_are_the_sources(profiled(load(path)), path)\nassert made() == (0, 0)\n"
    path = tmp_path / "here" / "model.py"
    path.parent.mkdir()
    profiled(load(path, MODEL))
    other = tmp_path / "there" / "model.py"
    other.parent.mkdir()
    other.write_text(MOVED)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(other)], check=True)
