"""The tables refuse entries that could not be right."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import PATTERNS, TABLE, How, Lowering, table
from tpu_dynamo_lowering.table import add, foreign_kernel, kernel, rewrites

from .graphs import traced

aten = torch.ops.aten


def test_a_second_entry_is_refused():
    with pytest.raises(TypeError, match=r"aten\.sort\.default has a lowering already"):

        @kernel(aten.sort.default)
        def sort(self, dim=-1, descending=False):
            """Sorted."""


def test_a_packet_is_refused():
    with pytest.raises(TypeError, match=r"keyed by overload, as in torch\.ops\.aten\.add\.Tensor"):
        add(Lowering(aten.sort, How.KERNEL, "", lambda: None))


def test_parameters_must_be_spelt_as_the_schema_spells_them():
    with pytest.raises(TypeError, match=r"\['x', 'y'\] is not spelt as the schema of aten.bernoulli.p"):

        @rewrites(aten.bernoulli.p)
        def bernoulli(x, y):
            """Wrong names."""


def test_defaults_must_be_those_of_the_schema():
    with pytest.raises(TypeError, match=r"parameter 'keepdim' of aten.any.dims has the default False"):

        @kernel(aten.any.dims)
        def any_dims(self, dim=None, keepdim=True):
            """Another default."""


def test_what_may_be_positional_is_no_keyword():
    with pytest.raises(TypeError, match=r"parameter 'self' of aten.abs.default may be positional"):

        @kernel(aten.abs.default)
        def absolute(*, self):
            """A keyword."""


def test_a_function_without_docstring_is_refused():
    with pytest.raises(TypeError, match="has no docstring"):

        @foreign_kernel("somebody::operator")
        def operator(x):
            pass


def test_every_entry_says_why_in_a_sentence():
    for overload, lowering in TABLE.items():
        assert lowering.reason.strip(), overload
        assert lowering.reason.rstrip().endswith((".", ":")) or len(lowering.reason) > 10, overload


def test_every_pattern_of_torch_mlir_has_a_kernel_for_the_dtypes_that_it_refuses():
    assert TABLE.keys() >= PATTERNS


@pytest.mark.parametrize(
    ("dtype", "by_torch_mlir"),
    [
        (torch.float32, True),
        (torch.bfloat16, True),
        (torch.int64, True),
        (torch.complex64, False),
        (torch.uint8, False),
    ],
    ids=str,
)
def test_torch_mlir_lowers_the_dtypes_that_its_patterns_take(dtype, by_torch_mlir):
    graph = traced(lambda x: x * x, torch.ones(2, dtype=dtype)).graph
    (node,) = graph.find_nodes(op="call_function", target=aten.mul.Tensor)
    assert (table.choose(node) is How.TORCH_MLIR) == by_torch_mlir
