"""Groups of ranks: those that act at once, and what a program spans."""

from __future__ import annotations

import pytest
import torch
from torch.fx import Graph, GraphModule

from tpu_dynamo.distributed.groups import IrregularGroups, as_text, siblings, spanned
from tpu_dynamo.distributed.imagined_job import imagined_job
from tpu_dynamo.distributed.meshes import span_collectives


@pytest.mark.parametrize(
    "group, size, wanted",
    [
        ((0, 1), 4, [(0, 1), (2, 3)]),
        ((1, 3), 4, [(0, 2), (1, 3)]),
        ((2, 3, 6, 7), 8, [(0, 1, 4, 5), (2, 3, 6, 7)]),  # two dimensions of three, flattened
        ((3, 2), 4, [(1, 0), (3, 2)]),
        ((2,), 3, [(0,), (1,), (2,)]),
    ],
)
def test_siblings_of_a_dimension_of_a_mesh(group, size, wanted):
    assert siblings(group, size) == wanted


def test_siblings_of_a_mesh_that_is_known_are_its_own():
    rows = [(0, 3), (1, 2)]
    assert siblings((1, 2), 4, [[(0, 1), (2, 3)], rows]) == rows


@pytest.mark.parametrize("group, size", [((0, 1), 3), ((0, 1, 3), 6), ((1, 2), 4)])
def test_irregular_groups_are_refused(group, size):
    with pytest.raises(IrregularGroups, match="one DeviceMesh over all ranks"):
        siblings(group, size)


def test_a_program_spans_the_ranks_that_its_groups_connect():
    rows, columns = [(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert spanned([rows], 2) == (2, 3)
    assert spanned([rows, columns], 5) == (4, 5, 6, 7)
    assert spanned([], 3) == (3,)


def test_groups_are_written_by_positions_so_that_equal_programs_have_equal_texts():
    rows = [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert as_text(rows, (0, 1, 2, 3)) == as_text(rows, (4, 5, 6, 7)) == "0,1|2,3"
    assert as_text([(5, 4)], (4, 5)) == "1,0"


@pytest.mark.parametrize("order", [["part", "whole"], ["whole", "part"], ["part"]])
def test_groups_of_a_part_of_a_mesh_are_those_of_the_whole_beside_them(order):
    with imagined_job({"dp": 2, "tp": 2}) as mesh:
        graph = Graph()
        for name in order:
            graph.get_attr(name)
        x = graph.placeholder("x")
        for group in (mesh.get_group("tp"), mesh.get_group("dp")):
            x = graph.call_function(torch.ops._c10d_functional.all_reduce.default, (x, "sum", group.group_name))
        graph.output(x)
        graph_module = GraphModule({"part": mesh["tp"], "whole": mesh}, graph)
        assert span_collectives(graph_module) == (0, 1, 2, 3)
    assert [node.args[2] for node in graph_module.graph.nodes if node.op == "call_function"] == ["0,1|2,3", "0,2|1,3"]
