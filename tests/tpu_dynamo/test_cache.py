"""The compile cache end to end: a later process finds what an earlier one made, and every miss says why."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

import tpu_dynamo
from tests.opinfo import entries as opinfo
from tpu_dynamo.cache import signature
from tpu_dynamo.cache.settings import CacheSettings, cache_settings
from tpu_dynamo.session import session
from tpu_dynamo_lowering import table
from tpu_dynamo_lowering.ops import TABLE
from tpu_dynamo_runtime import Client, XlaRuntimeError, client
from tpu_dynamo_runtime.store import entries


def forget() -> None:
    """Forget what a fresh process would not have, but for clients."""
    torch._dynamo.reset()
    session().release()
    session().close_caches()
    tpu_dynamo.reset_stats()


def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Compile and call a function as a fresh process would."""
    forget()
    return torch.compile(function, backend="tpu", options=options)(*args)


def made() -> tuple[int, int]:
    """Return the counts of lowered graphs and of compiled programs."""
    stats = tpu_dynamo.stats()
    return stats.lowerings, stats.xla_compiles


def scaled(x: torch.Tensor) -> torch.Tensor:
    return torch.sort(x * 2.0)[0]


def test_what_was_made_is_found_again():
    x = torch.randn(4, 5)
    first = run(scaled, x)
    assert made() == (1, 1)
    assert tpu_dynamo.stats().cache_misses == {"signature": 1, "memory": 1, "disk": 1}
    torch.testing.assert_close(run(scaled, x), first)
    assert made() == (0, 0)
    assert tpu_dynamo.stats().cache_hits == {"signature": 1, "disk": 1}
    assert tpu_dynamo.explain_last_miss() is None


def sections(x: torch.Tensor, mask: torch.Tensor) -> Any:
    table = torch.arange(600.0, dtype=torch.float64).reshape(2, 300)
    y = x.t() + table[:, :3].sum()
    x.add_(1)
    return y, y[0], x, None, 7, float("inf"), (table * mask).to(torch.bfloat16), y.to(torch.complex64), mask


def test_programs_of_every_kind_come_back_as_they_were():
    given = torch.randn(3, 4), torch.ones(2, 300, dtype=torch.bool)
    expected = sections(given[0].clone(), given[1])
    for _ in range(2):
        x = given[0].clone()
        actual = run(sections, x, given[1])
        torch.testing.assert_close(actual[:3], expected[:3])
        assert actual[3:6] == expected[3:6]
        torch.testing.assert_close(actual[6:], expected[6:])
        torch.testing.assert_close(x, expected[2])
        assert [t.stride() for t in actual[:2]] == [t.stride() for t in expected[:2]]
    assert made() == (0, 0)


def test_random_numbers_still_differ_from_call_to_call_and_follow_the_seed():
    def draw() -> list[torch.Tensor]:
        torch.manual_seed(3)
        forget()
        noisy = torch.compile(lambda x: torch.nn.functional.dropout(x, 0.5), backend="tpu")
        return [noisy(torch.ones(64)), noisy(torch.ones(64))]

    first, second = draw(), draw()
    assert made() == (0, 0)
    torch.testing.assert_close(first, second)
    assert not torch.equal(first[0], first[1])


def test_training_on_the_device_is_found_again():
    def losses() -> list[float]:
        forget()
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2).to("tpu")
        optimizer = torch.optim.Adam(model.parameters())
        step = tpu_dynamo.train_step(model, optimizer, lambda out, y: (out - y).pow(2).mean())
        x, y = torch.ones(3, 4).to("tpu"), torch.zeros(3, 2).to("tpu")
        return [float(step(x, y)) for _ in range(3)]

    first = losses()
    assert made()[0] > 0
    assert losses() == first
    assert made()[0] == 0


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_cache_can_be_switched_off(monkeypatch, way):
    if way == "environment":
        monkeypatch.setenv("TPU_DYNAMO_CACHE", "off")
    given = {"cache": False} if way == "option" else {}
    for _ in range(2):
        run(scaled, torch.ones(3), **given)
        assert made() == (1, 1)
    assert tpu_dynamo.stats().cache_misses == {"memory": 1}
    assert not Path(os.environ["TPU_DYNAMO_CACHE_DIR"]).exists()


def test_a_read_only_cache_gives_and_takes_nothing():
    run(scaled, torch.ones(3), cache="read_only")
    assert made() == (1, 1)
    run(scaled, torch.ones(3))
    assert made() == (1, 1)
    run(scaled, torch.ones(3), cache="read_only")
    assert made() == (0, 0)


def test_a_folder_can_be_chosen(tmp_path):
    run(scaled, torch.ones(3), cache_dir=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "entries" / "executable").is_dir()
    assert not Path(os.environ["TPU_DYNAMO_CACHE_DIR"]).exists()


def test_a_remote_tier_is_looked_into(monkeypatch, tmp_path):
    run(scaled, torch.ones(3))
    monkeypatch.setenv("TPU_DYNAMO_CACHE_REMOTE", (Path(os.environ["TPU_DYNAMO_CACHE_DIR"]) / "entries").as_uri())
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(tmp_path / "fresh"))
    run(scaled, torch.ones(3))
    assert made() == (0, 0)
    assert tpu_dynamo.stats().cache_hits["remote"] == 1
    run(scaled, torch.ones(3))
    assert tpu_dynamo.stats().cache_hits == {"signature": 1, "disk": 1}


def test_settings_are_read_when_asked(monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", "/a")
    monkeypatch.setenv("TPU_DYNAMO_CACHE_MAX_BYTES", "20GiB")
    monkeypatch.setenv("TPU_DYNAMO_CACHE", "read_only")
    assert cache_settings() == CacheSettings(read_only=True, directory=Path("/a"), max_bytes=20 << 30)
    assert not cache_settings(tpu_dynamo.Options(cache=False)).enabled
    for name, value in {"": "", "_MAX_BYTES": "much", "_DIR": ""}.items():
        monkeypatch.setenv(f"TPU_DYNAMO_CACHE{name}", value)
    assert cache_settings() == CacheSettings()


def spoil(kind: str) -> None:
    for file in (Path(os.environ["TPU_DYNAMO_CACHE_DIR"]) / "entries" / kind).rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(("kind", "expected"), [("program", (1, 0)), ("executable", (0, 1))])
def test_a_damaged_entry_is_counted_and_made_anew(kind, expected):
    x = torch.randn(4)
    expected_values = run(scaled, x)
    spoil(kind)
    torch.testing.assert_close(run(scaled, x), expected_values)
    assert made() == expected
    assert tpu_dynamo.stats().cache_faults == {"damaged": 1}
    torch.testing.assert_close(run(scaled, x), expected_values)
    assert made() == (0, 0)


def test_an_executable_that_pjrt_refuses_is_rejected_and_compiled(monkeypatch):
    x = torch.randn(4)
    expected = run(scaled, x)

    def refuse(self: Client, data: bytes) -> Any:
        raise XlaRuntimeError("the machine code wants AVX-512")

    with monkeypatch.context() as patched:
        patched.setattr(Client, "deserialise", refuse)
        torch.testing.assert_close(run(scaled, x), expected)
        assert made() == (0, 1)
        assert tpu_dynamo.stats().cache_faults == {"rejected": 1}
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == (0, 0)


def test_a_program_entry_that_says_nonsense_is_rejected():
    run(scaled, torch.ones(3))
    cache = next(iter(session()._caches.values()))
    (listed,) = entries(cache.store, "program")
    found = cache.store.get("program", listed.key)
    for nonsense in (b"[]", b"{}", b'{"digest": 1, "arguments": [[0, [[3], "nn", [0], "cpu"]]]}'):
        cache.store.put("program", listed.key, {**found.sections, "description": nonsense}, listed.header.metadata)
        run(scaled, torch.ones(3))
        assert made() == (1, 0)
        assert tpu_dynamo.stats().cache_faults == {"rejected": 1}


def reasons() -> tuple[str, ...]:
    return tpu_dynamo.explain_last_miss().reasons


def test_a_miss_names_the_guard_that_differs():
    run(scaled, torch.ones(4, 128))
    assert reasons() == ("there are no programs in the cache yet",)
    run(scaled, torch.ones(4, 130))
    assert "guard L['x'].size()[1] was 128, now 130" in reasons()
    run(scaled, torch.ones(4, 128).double())
    assert "guard L['x'].dtype was float32, now float64" in reasons()
    assert "(scaled): not in the cache: x is float64, was float32" in str(tpu_dynamo.explain_last_miss())


def test_a_miss_names_the_operation_the_option_and_the_setting_that_differ():
    run(scaled, torch.ones(4))
    run(lambda x: torch.sort(x * 3.0)[0], torch.ones(4))
    assert reasons()[0].startswith("operation 1 of the graph was aten.mul.Tensor (%0, 2.0)")
    run(scaled, torch.ones(4), partitioner="default")
    assert reasons() == ("options: partitioner min_cut -> default",)
    torch.set_float32_matmul_precision("high")
    run(scaled, torch.ones(4))
    torch.set_float32_matmul_precision("highest")
    assert reasons() == ("matmul precision highest -> high",)


def test_a_miss_names_the_version_that_differs(monkeypatch):
    run(scaled, torch.ones(4))
    before = signature.versions()
    monkeypatch.setattr(signature, "versions", lambda: {**before, "torch-mlir": "1"})
    run(scaled, torch.ones(4))
    assert reasons() == (f"torch-mlir {before['torch-mlir']} -> 1",)


def test_a_miss_of_an_executable_names_what_differs_in_the_environment(monkeypatch):
    run(scaled, torch.ones(4))
    here = client("cpu")
    monkeypatch.setattr(here, "environment", {**here.environment, "XLA_FLAGS": ["--xla_cpu_use_fusion_emitters=0"]})
    run(scaled, torch.ones(4))
    assert made() == (0, 1)
    assert reasons() == ("XLA_FLAGS gained --xla_cpu_use_fusion_emitters=0",)
    assert tpu_dynamo.explain_last_miss().level == "disk"


def test_flags_of_xla_are_part_of_executables_and_not_of_programs():
    flags = {"xla_cpu_enable_fast_math": True}
    run(scaled, torch.ones(4))
    run(scaled, torch.ones(4), xla_flags=flags)
    assert made() == (0, 1)
    assert reasons() == ("xla_flags gained xla_cpu_enable_fast_math=True",)
    for given in (flags, {"xla_cpu_enable_fast_math": "True"}, {}):
        run(scaled, torch.ones(4), xla_flags=given)
        assert made() == (0, 0)


def test_functions_of_one_process_with_other_flags_have_executables_of_their_own():
    forget()
    for flags in ({}, {"xla_cpu_enable_fast_math": True}, {}):
        torch._dynamo.reset()
        torch.compile(scaled, backend="tpu", options={"xla_flags": flags})(torch.ones(4))
    assert made()[1] == 2


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"xla_nonsense": 1}, "option xla_flags: XLA for cpu knows no flag 'xla_nonsense'"),
        ({"xla_cpu_enable_fast_math": "maybe"}, "option xla_flags: flag 'xla_cpu_enable_fast_math' cannot be 'maybe'"),
    ],
)
def test_a_flag_that_xla_refuses_is_an_error_of_the_options(flags, why, cache):
    with pytest.raises(BackendCompilerFailed, match=why) as caught:
        run(scaled, torch.ones(4), xla_flags=flags, cache=cache)
    assert isinstance(caught.value.inner_exception, tpu_dynamo.OptionError)


def test_an_executable_that_was_removed_is_said_to_be():
    run(scaled, torch.ones(4))
    for file in (Path(os.environ["TPU_DYNAMO_CACHE_DIR"]) / "entries" / "executable").rglob("*/*"):
        file.unlink()
    run(scaled, torch.ones(4))
    assert made() == (0, 1)
    assert reasons() == ("it was never kept, or was removed",)


def test_a_graph_without_a_signature_says_so_and_its_executable_is_still_found():
    operator = torch.ops.aten.sort.default
    entry = TABLE[operator]
    try:
        TABLE[operator] = table.Lowering(operator, entry.how, entry.reason, lambda *args: entry.function(*args))
        for expected in ((1, 1), (1, 0)):
            run(scaled, torch.ones(4))
            assert made() == expected
        assert "registered in" in str(tpu_dynamo.explain_last_miss())
    finally:
        TABLE[operator] = entry


@pytest.fixture
def logged() -> Iterator[list[str]]:
    kept: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    log, keep = logging.getLogger("tpu_dynamo.cache"), Keep()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(keep)
    yield kept
    log.removeHandler(keep)
    log.setLevel(level)


def test_each_miss_is_a_line_in_the_log(logged):
    run(scaled, torch.ones(3))
    run(scaled, torch.ones(4))
    assert len(logged) == 2
    assert logged[0].endswith("(scaled): not in the cache: it is new, nothing like it was compiled before")
    assert logged[1].endswith("(scaled): not in the cache: x has shape (4,), was (3,)")


def test_misses_and_hits_are_in_the_report():
    run(scaled, torch.ones(3))
    forget()
    with tpu_dynamo.diagnose() as diagnosis:
        run(scaled, torch.ones(4))
    (level,) = [found for found in diagnosis.report.cache if (found.level, found.outcome) == ("signature", "miss")]
    assert "guard L['x'].size()[0] was 3, now 4" in level.reasons[0]
    (miss,) = level.misses
    assert (miss.owners, miss.summary) == (("scaled",), "x has shape (4,), was (3,)")
    assert "    scaled: x has shape (4,), was (3,)\n" in str(diagnosis)
    assert "guard" not in str(diagnosis)


def test_a_script_that_was_never_compiled_is_one_line_of_new_graphs():
    forget()
    with tpu_dynamo.diagnose() as diagnosis:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        torch.compile(model, backend="tpu")(torch.ones(2, 3)).sum().backward()
        torch.compile(scaled, backend="tpu")(torch.ones(4))
        torch.compile(lambda x: x.cos().sum(), backend="tpu")(torch.ones(4))
    told = str(diagnosis).splitlines()
    assert told[-2] == "cache: 0 programs found, 4 lowered and compiled anew"
    assert told[-1].startswith("    new: ")
    assert "scaled" in told[-1]


def test_a_backward_graph_changed_with_its_forward_graph():
    def train(rows: int) -> None:
        forget()
        layer = torch.nn.Linear(3, 3)
        torch.compile(lambda x: layer(x).sin().sum(), backend="tpu")(torch.ones(rows, 3)).backward()

    train(2)
    train(5)
    assert tpu_dynamo.explain_last_miss().owner == "<lambda>, backward"
    assert tpu_dynamo.explain_last_miss().summary == "x has shape (5, 3), was (2, 3)"


def test_a_cache_that_cannot_be_used_changes_nothing(monkeypatch, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(folder))
    for _ in range(2):
        run(scaled, torch.ones(3))
        assert made() == (1, 1)
        assert tpu_dynamo.stats().cache_faults == {"directory_refused": 1}


SCRIPT = """
import json, torch, tpu_dynamo
torch.manual_seed(0)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 2)
    def forward(self, x):
        x = torch.relu(self.first(x))
        torch._dynamo.graph_break()
        return self.second(x)
model = Model()
compiled = torch.compile(model, backend="tpu")
values = []
for batch in (3, 5, 7):
    out = compiled(torch.ones(batch, 6))
    out.sum().backward()
    values.append(float(out.sum()))
with torch.no_grad():
    values.append(float(compiled(torch.ones(4, 6)).sum()))
stats = tpu_dynamo.stats()
print(json.dumps([stats.lowerings, stats.xla_compiles, stats.cache_faults, stats.graphs, values]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TPU_DYNAMO_CACHE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=900)  # some seconds on an idle machine
    assert process.returncode == 0, err
    return json.loads(out)


def test_processes_make_each_program_once_and_a_later_one_makes_nothing(tmp_path):
    together = [answer(process) for process in [start(tmp_path / "cache") for _ in range(2)]]
    later = answer(start(tmp_path / "cache"))
    lowerings, compiles, faults, graphs, values = later
    assert (lowerings, compiles, faults) == (0, 0, {})
    assert sum(graphs.values()) > 4
    assert all(each[4] == values for each in together)
    programs = list((tmp_path / "cache" / "entries" / "program").rglob("*/*"))
    executables = list((tmp_path / "cache" / "entries" / "executable").rglob("*/*"))
    assert sum(each[0] for each in together) == len(programs)
    assert sum(each[1] for each in together) == len(executables)


def test_operators_that_torch_itself_defines_in_python_are_found_again():
    info = opinfo.entries(torch.float32)["nn.functional.linear_cross_entropy-chunked"]
    (sample,) = opinfo.samples(info, torch.float32, 1)
    for expected in ((1, 1), (0, 0)):
        forget()
        with torch.no_grad():
            opinfo.check(info, sample)
        assert made() == expected
