"""The tables refuse entries that could not be right."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import PATTERNS, TABLE, How, Lowering, all_lowerings
from tpu_dynamo_lowering._torch_compat import overload_if_defined, overloads_of
from tpu_dynamo_lowering.choice import choose
from tpu_dynamo_lowering.kernels import elementwise
from tpu_dynamo_lowering.table import (
    FOREIGN,
    add,
    before_autograd,
    foreign_kernel,
    foreign_mismatch,
    higher_order_kernel,
    kernel,
    random_kernel,
    rewrites,
)

from .graphs import traced

aten = torch.ops.aten


@torch.library.custom_op("tpu_dynamo_tests::scaled", mutates_args=())
def scaled(x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
    """Multiply, as an operator of another library."""
    return x * factor


scaled.register_fake(lambda x, factor=2.0: torch.empty_like(x))


@pytest.fixture
def foreign():
    """Give the table of other libraries' operators, and restore it afterwards."""
    kept = dict(FOREIGN)
    yield FOREIGN
    FOREIGN.clear()
    FOREIGN.update(kept)


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


def test_positional_only_parameters_may_be_spelt_otherwise(monkeypatch):
    monkeypatch.delitem(TABLE, aten.bernoulli.p)

    @rewrites(aten.bernoulli.p)
    def bernoulli(x, p, /, generator=None):
        """A name that no call passes."""

    assert TABLE[aten.bernoulli.p].function is bernoulli
    monkeypatch.delitem(TABLE, aten.bernoulli.p)
    with pytest.raises(TypeError, match="is not spelt as the schema"):

        @rewrites(aten.bernoulli.p)
        def seeded(x, p, seed, /):
            """A name by which calls pass it."""


def test_an_overload_that_torch_lacks_is_left_out():
    assert overload_if_defined("aten::sort.default") == (aten.sort.default,)
    assert overload_if_defined("aten::sort.backwards") == overload_if_defined("aten::no_operator.default") == ()


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
    without = [
        (str(lowering.overload), lowering.reason)
        for lowering in all_lowerings()
        if not lowering.reason.endswith(".") or len(lowering.reason.split()) < 2 or "\n" in lowering.reason
    ]
    assert not without


@pytest.mark.parametrize(
    "register",
    [
        kernel(aten.sort),
        rewrites(aten.sort),
        random_kernel(aten.sort),
        before_autograd(aten.sort),
    ],
    ids=["kernel", "rewrites", "random_kernel", "before_autograd"],
)
def test_no_decorator_takes_a_packet(register):
    def sort(key, self, dim=-1, descending=False):
        """Sorted."""

    with pytest.raises(TypeError, match=r"aten\.sort: the table is keyed by overload"):
        register(sort)


def test_a_higher_order_operator_is_no_overload():
    with pytest.raises(TypeError, match=r"aten\.sort\.default is no higher-order operator"):
        higher_order_kernel(aten.sort.default)(lambda self: self)


def test_a_random_kernel_takes_a_key_and_parameters_of_the_schema():
    def without_key(self, mean=0, std=1):
        """Normal."""

    def misspelt(key, self, average):
        """Normal."""

    def second(key, self, mean, std):
        """Normal."""

    with pytest.raises(TypeError, match="the first parameter is 'self', not 'key'"):
        random_kernel(aten.normal_functional.default)(without_key)
    with pytest.raises(
        TypeError, match=r"names parameters that aten.normal_functional.default does not have: \['self'"
    ):
        random_kernel(aten.normal_functional.default)(misspelt)
    with pytest.raises(TypeError, match="has a lowering already"):
        random_kernel(aten.normal_functional.default)(second)


def test_definitions_before_autograd_are_checked_as_well():
    def multi_margin_loss(self, target, p=1, margin=1, weight=None, reduction=1):
        """A second one."""

    with pytest.raises(TypeError, match=r"multi_margin_loss.default has a definition already"):
        before_autograd(aten.multi_margin_loss.default)(multi_margin_loss)
    with pytest.raises(TypeError, match=r"is not spelt as the schema of aten\.abs\.default"):
        before_autograd(aten.abs.default)(multi_margin_loss)


@pytest.mark.parametrize("name", ["arccosine", "ord"])
def test_the_tables_of_elementwise_functions_name_operators_of_tensors(name):
    with pytest.raises(TypeError, match=f"neither aten nor prims has an operator '{name}' of tensors"):
        elementwise._enter({name: abs}, elementwise._unary, ("default",), "a reason.")


def test_the_tables_of_elementwise_functions_are_checked_against_schemas():
    with pytest.raises(TypeError, match=r"is not spelt as the schema of aten.cumsum.default"):
        elementwise._enter({"cumsum": abs}, elementwise._unary, ("default",), "a reason.")
    with pytest.raises(TypeError, match="has a lowering already"):
        elementwise._enter({"exp": abs}, elementwise._unary, ("default",), "a reason.")


@pytest.mark.parametrize("name", ["scaled", "aten::abs", "library::scaled.default", "::scaled", "library::"])
def test_a_foreign_kernel_is_named_as_in_the_schema_of_another_library(name):
    with pytest.raises(TypeError, match="is no name of another library's operator"):
        foreign_kernel(name)(lambda x: x)


def test_a_foreign_kernel_of_an_operator_that_exists_is_checked_at_once(foreign):
    def scaled(x, factor=3.0):
        """Another default."""

    with pytest.raises(TypeError, match=r"parameter 'factor' of tpu_dynamo_tests.scaled.default has the default 2.0"):
        foreign_kernel("tpu_dynamo_tests::scaled")(scaled)
    assert "tpu_dynamo_tests::scaled" not in foreign


def test_a_second_foreign_kernel_is_refused():
    with pytest.raises(TypeError, match="grouped_mm_fallback has a lowering already"):
        foreign_kernel("transformers::grouped_mm_fallback")(lambda input, weight, offs: input)


def test_a_foreign_kernel_of_an_operator_that_is_defined_later_is_checked_when_a_graph_calls_it(foreign):
    @foreign_kernel("tpu_dynamo_tests::later")
    def later(x, wrong):
        """Parameters that the operator turns out not to have."""

    @torch.library.custom_op("tpu_dynamo_tests::later", mutates_args=())
    def operator(x: torch.Tensor, right: float) -> torch.Tensor:
        return x * right

    operator.register_fake(lambda x, right: torch.empty_like(x))
    with pytest.raises(
        torch._dynamo.exc.BackendCompilerFailed, match=r"\['x', 'wrong'\] is not spelt as the schema of"
    ) as refused:
        torch.compile(lambda x: operator(x, 2.0), backend="tpu")(torch.ones(2))
    assert "UnsupportedOp" in str(refused.value)
    assert __file__ in str(refused.value)


def test_a_foreign_kernel_computes_every_call_of_its_operator(foreign, matches_eager):
    @foreign_kernel("tpu_dynamo_tests::scaled")
    def compute(x, factor=2.0):
        """A product with a number."""
        return x * factor

    matches_eager(lambda x: (scaled(x), scaled(x, 3.0), scaled(x, factor=4.0)), torch.arange(3.0))


@pytest.mark.filterwarnings("ignore")
def test_kernels_of_other_libraries_are_spelt_as_the_operators_that_are_installed():
    # These define their operators.
    import torch.ao.quantization.fx._decomposed  # noqa: F401
    import transformers.integrations.moe  # noqa: F401

    import tests.lowering.test_tensorrt_quantisation  # noqa: F401  (for Model Optimizer, which is not installed)

    for name, lowering in FOREIGN.items():
        overloads = overloads_of(name)
        assert overloads, name
        assert [foreign_mismatch(lowering, overload) for overload in overloads] == [None] * len(overloads)


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
    assert (choose(node) is How.TORCH_MLIR) == by_torch_mlir
