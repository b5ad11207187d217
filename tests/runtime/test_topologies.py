"""Topologies: which names there are, and what is said of those that there are not."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import TOPOLOGIES, CompileOnlyTarget, UnknownTarget, find_topology, resolve


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_listed_topology_is_known(name):
    topology = find_topology(name)
    assert topology is not None
    assert topology.name == name
    assert 0 < topology.chip.usable_hbm * topology.chip.devices <= topology.chip.hbm * 1.02


@pytest.mark.parametrize(("name", "chips"), [("v4:16x16x16", 4096), ("v5p:8x16x16", 2048), ("tpu7x:8x16x16", 2048)])
def test_larger_topologies_are_made_of_cubes(name, chips):
    topology = find_topology(name)
    assert topology is not None
    assert topology.chips == chips


@pytest.mark.parametrize(
    "name",
    [
        "v5e:3x3",
        "v5e:2x2x1",
        "v5e:32x32",
        "v4:2x2",
        "v4:8x4x4",
        "v4:16x16x32",
        "v4:4x4x0",
        "v9:2x2",
        "v5e",
        "v5e-4",
        "v5e:02x2",
        "V5E:2x2",
        " v5e:2x2",
        "",
    ],
)
def test_other_names_are_none(name):
    assert find_topology(name) is None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("v5:2x2", "v5e:2x2"), ("V6E:2x2", "v6e:2x2"), ("v6e:2x22", "v6e:2x2"), ("tpu7:2x2x1", "tpu7x:2x2x1")],
)
def test_an_unknown_one_names_the_closest_and_lists_the_known(wrong, right):
    with pytest.raises(UnknownTarget, match=f"did you mean '{right}'") as caught:
        resolve(wrong, tpu_chips=0)
    for name in TOPOLOGIES:
        assert name in str(caught.value)


def test_nothing_runs_on_a_topology():
    with pytest.raises(CompileOnlyTarget, match=r"'v5e:2x2' is compile-only.*\n.*tpu_dynamo\.compile_for"):
        resolve("v5e:2x2", tpu_chips=4)
