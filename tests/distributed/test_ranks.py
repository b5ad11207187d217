"""Several processes as torchrun starts them: collectives, compiled models, what is compiled once, and faults."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .ranks import all_passed, run_ranks

HERE = Path(__file__).parent


def compiled(output: str) -> dict[str, int]:
    """Return the hashes of the programs that a rank compiled, and how many ranks each spans."""
    return {program: int(span) for program, span in re.findall(r"COMPILED (\w+) (\d+)", output)}


def test_every_eager_collective_over_two_ranks():
    all_passed(run_ranks(HERE / "eager_cases.py", 2))


@pytest.mark.parametrize(
    "cache", [pytest.param("", id="a cache"), pytest.param("off", id="none", marks=pytest.mark.slow)]
)
def test_each_program_is_compiled_once_in_a_job_and_those_of_several_ranks_by_the_first(cache):
    environment = {"TPU_DYNAMO_CACHE": cache} if cache else {}
    first = run_ranks(HERE / "compiled_cases.py", 2, environment=environment)
    all_passed(first)
    lead, second = (compiled(each.output) for each in first)
    assert not lead.keys() & second.keys()
    assert any(lead.values()) and not any(second.values())
    if not cache:
        again = run_ranks(HERE / "compiled_cases.py", 2)
        all_passed(again)
        assert [compiled(each.output) for each in again] == [{}, {}]


@pytest.mark.slow
def test_two_ranks_send_to_each_other_and_through_groups_of_gloo():
    all_passed(run_ranks(HERE / "pair_cases.py", 2, "transfers", "gloo"))


@pytest.mark.slow
def test_pipelines_and_gradients_of_collectives_equal_one_process():
    all_passed(run_ranks(HERE / "pair_cases.py", 2))


@pytest.mark.slow
def test_a_checkpoint_of_four_ranks_is_loaded_by_two_and_by_one_chip(tmp_path):
    all_passed(run_ranks(HERE / "checkpoint_cases.py", 4, "save", str(tmp_path), seconds=300))
    all_passed(run_ranks(HERE / "checkpoint_cases.py", 2, "load", str(tmp_path), seconds=300))
    all_passed(run_ranks(HERE / "checkpoint_cases.py", 1, "load_on_one_chip", str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["eager_cases.py", "compiled_cases.py"])
def test_four_ranks(script):
    all_passed(run_ranks(HERE / script, 4, seconds=300))


def test_whole_steps_of_sharded_models_are_one_execution_and_equal_to_one_device():
    names = ["tensor_parallel", "fully_shard", "data_parallel", "uneven"]
    all_passed(run_ranks(HERE / "step_cases.py", 2, *names))


@pytest.mark.slow
def test_models_of_each_kind_train_as_on_one_device():
    all_passed(run_ranks(HERE / "model_cases.py", 2, "ddp", "fsdp", "tp"))


@pytest.mark.slow
def test_dtensors_draw_each_shard_differently_and_alike_on_replicas():
    all_passed(run_ranks(HERE / "model_cases.py", 2, "random"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_every_way_to_train_in_the_ordinary_loop(size):
    all_passed(run_ranks(HERE / "model_cases.py", size, seconds=900))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_whole_steps_of_every_layout(size):
    all_passed(run_ranks(HERE / "step_cases.py", size, seconds=400))


def test_different_programs_are_an_error_on_all_ranks_that_shows_the_difference():
    for rank, ended in enumerate(run_ranks(HERE / "fault_cases.py", 2, "differ")):
        assert ended.status == 0, f"rank {rank}: {ended.output}"
        compiled, eager = ended.output.split("rank 0 and rank 1 are to run different programs together")[1:]
        assert "-stablehlo.add" in compiled and "+stablehlo.multiply" in compiled
        assert compiled.count("fault_cases.py:26/aten") > 1  # the branch
        assert "tensor<5xf32>" in eager and "fault_cases.py:34" in eager
        assert "TPU601" in eager and "then [2.0, 2.0]" in eager


def test_known_programs_in_another_order_are_an_error_on_all_ranks_with_both_lines():
    script = (HERE / "fault_cases.py").read_text().splitlines()
    lines = [i for i, line in enumerate(script, 1) if "dist.all_reduce(small)" in line or "# the other order" in line]
    for rank, ended in enumerate(run_ranks(HERE / "fault_cases.py", 2, "order")):
        assert ended.status == 0, f"rank {rank}: {ended.output}"
        assert "TPU601" in ended.output and "in another order" in ended.output
        assert all(f"fault_cases.py:{line}" in ended.output for line in lines)
        assert "then 4.0" in ended.output


@pytest.mark.slow
def test_a_rank_that_ends_early_is_named():
    waiting, early = run_ranks(HERE / "fault_cases.py", 2, "ended")
    assert early.status == 0
    assert "True rank 1 did not come" in waiting.output and "its process has ended" in waiting.output


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_by_its_name():
    waiting, killed = run_ranks(HERE / "fault_cases.py", 2, "killed", seconds=60)
    assert killed.status == -9
    assert waiting.status != 0 and "rank 1 died" in waiting.output


@pytest.mark.slow
def test_a_run_works_after_rank_0_was_killed_while_it_compiled(tmp_path):
    environment = {"TPU_DYNAMO_CACHE_DIR": str(tmp_path), "KILL_RANK_0": "1"}
    assert all(each.status for each in run_ranks(HERE / "compiled_cases.py", 2, environment=environment))
    assert list(tmp_path.iterdir())
    all_passed(run_ranks(HERE / "compiled_cases.py", 2, environment={**environment, "KILL_RANK_0": ""}))


@pytest.mark.slow
def test_the_example_of_fully_shard_has_the_losses_of_one_process():
    script = HERE.parents[1] / "examples" / "train_fsdp.py"
    both = run_ranks(script, 2, "--epochs", "1", seconds=300)
    all_passed(both)
    whole = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "--epochs", "1"], capture_output=True, text=True, check=True
    )
    losses = [next(line for line in text.splitlines() if "loss" in line) for text in (both[0].output, whole.stdout)]
    assert losses[0] == losses[1]
