"""Recompiles: every failed guard in parts, each cause once, and advice that ends them."""

from __future__ import annotations

import os

import pytest
import torch

from tests.diagnostics.runs import watch
from tpu_dynamo.diagnostics.guards import failed_guards, full_source

GUARDS = {
    "size": (
        "7/1: tensor 'x' size mismatch at index 0. expected 3, actual 4",
        ("size", "x", 0, "3", "4"),
    ),
    "size-of-a-parameter": (
        "7/1: tensor 'self.w' size mismatch at index 1. expected 3, actual 4. Guard failed on a parameter, consider "
        "using torch._dynamo.config.force_parameter_static_shapes = False to allow dynamism on parameters.",
        ("size", "self.w", 1, "3", "4"),
    ),
    "rank": ("0/0: tensor 'x' rank mismatch. expected 3, actual 2", ("rank", "x", None, "3", "2")),
    "dtype": ("0/0: tensor 'x' dtype mismatch. expected Float, actual Double", ("dtype", "x", None, "Float", "Double")),
    "stride": ("0/0: tensor 'x' stride mismatch at index 1. expected 1, actual 3", ("stride", "x", 1, "1", "3")),
    "requires-grad": (
        "0/0: tensor 'x' requires_grad mismatch. expected requires_grad=1",
        ("requires_grad", "x", None, "True", "False"),
    ),
    "number": (
        "7/0: n == 3                           # return x * n  # mp/exp/probe.py:23 in k",
        ("value", "n", None, "3", None),
    ),
    "text-with-a-hash": ("0/0: s == 'a  # b'    # if s:  # m.py:3 in f", ("value", "s", None, "'a  # b'", None)),
    "none": ("0/5: flag is None              # if flag:  # m.py:13 in f", ("value", "flag", None, "None", None)),
    "length": ("0/1: len(xs) == 1      # for a in xs:  # m.py:14 in f", ("length", "xs", None, "1", None)),
    "empty": ("0/1: not xs      # for a in xs:  # m.py:14 in f", ("length", "xs", None, "0", None)),
    "type": (
        "0/9: ___check_type_id(xs, 140291223184256), type=<class 'tuple'>  # for a in xs:  # m.py:14 in f",
        ("type", "xs", None, "tuple", None),
    ),
    "identity": (
        "0/2: ___check_obj_id(fn.__code__, 140625816406704), type=<class 'code'>  # fn(y)  # m.py:16 in f",
        ("identity", "fn.__code__", None, "code", None),
    ),
    "condition": (
        "1/0: (x.size()[0] % 2) == 0  # if x.shape[0] % 2:  # m.py:40 in k (_dynamo/x.py:1 in evaluate_expr)",
        ("shape_expression", "x", 0, "(x.size()[0] % 2) == 0", None),
    ),
    "state": ("0/5: GLOBAL_STATE changed: grad_mode ", ("global_state", "grad_mode", None, None, None)),
    "aliasing": ('2/0: Duplicate tensors found: ["x", "y"]', ("aliasing", '["x", "y"]', None, None, None)),
    "key": (
        "0/0: not ___dict_contains('k', d)   # d['k'] = 1  # m.py:1 in f",
        ("keys", "d", None, "without key 'k'", None),
    ),
    "anything-else": ("0/0: some future guard", ("other", None, None, None, None)),
}


@pytest.mark.parametrize(("text", "parts"), GUARDS.values(), ids=GUARDS)
def test_a_failed_guard_is_taken_apart(text, parts):
    (found,) = failed_guards(text)
    assert (found.kind, found.source, found.dimension, found.expected, found.actual) == parts
    assert found.entry == text.split(":")[0]


def test_sources_are_written_as_torch_takes_them():
    assert full_source("x") == "L['x']"
    assert full_source("self.layers[0].step") == "L['self'].layers[0].step"


def product(x, n):
    return x * n


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self, x):
        self.step += 1
        return x * self.step


class CountingInATensor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.step += 1
        return x * self.step


def called(make, *calls, before=lambda *args: None):
    def work():
        compiled = torch.compile(make, backend="eager")
        for arguments in calls:
            before(*arguments)
            compiled(*arguments)

    return watch(work)


def test_a_size_that_changes_is_named_with_its_range_and_marking_it_ends_the_recompiles():
    sizes = [(torch.ones(4, 3), 2.0), (torch.ones(6, 3), 2.0), (torch.ones(8, 3), 2.0)]
    watched = called(product, *sizes)
    (found,) = watched.report.recompiles
    assert (found.code, found.source, found.dimension, found.values) == ("TPU201", "x", 0, ("4", "6"))
    assert "torch._dynamo.mark_dynamic(x, 0, min=4, max=6)" in found.advice.text
    assert len(found.compiles) == sum(c.recompile for c in watched.report.compiles) == 1

    def mark(x, n):
        torch._dynamo.mark_dynamic(x, 0, min=4, max=8)

    assert not called(product, *sizes, before=mark).report.recompiles


@torch.compiler.disable
def half(x):
    return x[: x.shape[0] // 2]


def behind_a_call(x, n):
    return half(x.sin()) * n


def behind_a_name(x, n):
    y = x[: x.shape[0] // 2].sin()
    torch._dynamo.graph_break()
    return y * n


def argument_behind_a_break(x, n):
    y = n * 2
    torch._dynamo.graph_break()
    return x * y


@pytest.mark.parametrize("function", [behind_a_call, behind_a_name])
def test_a_size_that_is_computed_before_a_break_is_not_said_to_be_an_argument(function):
    calls = [(torch.ones(4, 3), 2.0), (torch.ones(8, 3), 2.0)]
    recompiles = {found.source: found for found in called(function, *calls).report.recompiles}
    (behind,) = set(recompiles) - {"x"}
    advice = recompiles[behind].advice
    assert "mark_dynamic" not in advice.text
    assert "___stack" not in advice.title
    assert "before the graph break at line" in advice.text
    sources = [each.advice.text.split('SOURCES="')[1].split('"')[0] for each in recompiles.values()]
    with torch.compiler.config.patch(dynamic_sources=",".join(sources)):
        assert not called(function, *calls).report.recompiles


def test_an_argument_that_is_read_behind_a_break_can_be_marked():
    calls = [(torch.ones(4, 3), 2.0), (torch.ones(8, 3), 2.0)]
    (found,) = called(argument_behind_a_break, *calls).report.recompiles
    assert "torch._dynamo.mark_dynamic(x, 0, min=4, max=8)" in found.advice.text


def test_the_environment_variable_of_the_advice_ends_them_too(monkeypatch):
    calls = [(torch.ones(4, 3), 2.0), (torch.ones(6, 3), 2.0)]
    (found,) = called(product, *calls).report.recompiles
    assignment = found.advice.text.split("set `")[1].split("`")[0]
    name, value = assignment.split("=", 1)
    assert name == "TORCH_COMPILE_DYNAMIC_SOURCES"
    assert name not in os.environ
    with torch.compiler.config.patch(dynamic_sources=value.strip('"')):
        assert not called(product, *calls).report.recompiles


def test_a_number_that_changes_should_be_a_tensor():
    x = torch.ones(3)
    (found,) = called(product, (x, 1.0), (x, 0.5)).report.recompiles
    assert (found.code, found.source, found.values) == ("TPU202", "n", ("0.5", "1.0"))
    assert found.advice.after == "model(x, n=torch.tensor(step))"
    assert not called(product, (x, torch.tensor(1.0)), (x, torch.tensor(0.5))).report.recompiles


def test_a_counter_on_a_module_should_be_a_buffer():
    x = torch.ones(3)
    (found,) = called(Counting(), (x,), (x,), (x,)).report.recompiles
    assert (found.code, found.source, found.values) == ("TPU202", "self.step", ("0", "1", "2"))
    assert 'self.register_buffer("step"' in found.advice.after
    assert found.so_far == 2
    assert found.limit == torch._dynamo.config.recompile_limit
    assert not called(CountingInATensor(), (x,), (x,), (x,)).report.recompiles


def test_a_grad_mode_that_changes_and_a_function_of_its_own():
    x = torch.ones(3)

    def work():
        compiled = torch.compile(product, backend="eager")
        compiled(x, 2.0)
        with torch.no_grad():
            compiled(x, 2.0)

    (found,) = watch(work).report.recompiles
    assert (found.code, found.source, found.values) == ("TPU205", "grad_mode", ("grad_mode=false",))

    def without_gradients(x, n):
        with torch.no_grad():
            return product(x, n)

    def fixed():
        torch.compile(product, backend="eager")(x, 2.0)
        torch.compile(without_gradients, backend="eager")(x, 2.0)

    assert not watch(fixed).report.recompiles


@pytest.mark.parametrize(
    ("first", "second", "kind", "values"),
    [
        pytest.param((torch.ones(2), "a"), (torch.ones(2), "b"), "value", ("'a'", "'b'"), id="string"),
        pytest.param((torch.ones(2), None), (torch.ones(2), True), "value", ("None", "True"), id="none"),
        pytest.param((torch.ones(2), [1]), (torch.ones(2), [1, 2]), "length", ("1", "2"), id="length"),
        pytest.param((torch.ones(2), [1]), (torch.ones(2), (1,)), "type", ("list", "tuple"), id="type"),
        pytest.param((torch.ones(2), 1), (torch.ones(2).double(), 1), "dtype", ("Double", "Float"), id="dtype"),
        pytest.param((torch.ones(2, 2), 1), (torch.ones(2), 1), "rank", ("1", "2"), id="rank"),
    ],
)
def test_values_are_known_of_both_sides(first, second, kind, values):
    def function(x, y):
        return x + 1 if y else x * 2

    (found,) = called(function, first, second).report.recompiles
    assert (found.kind, found.values) == (kind, values)


def test_a_condition_on_a_size_names_the_size():
    def function(x):
        return x.view(-1, 2) if x.shape[0] % 2 == 0 else x

    def work():
        compiled = torch.compile(function, backend="eager", dynamic=True)
        compiled(torch.ones(4))
        compiled(torch.ones(5))

    (found,) = watch(work).report.recompiles
    assert (found.kind, found.source, found.dimension, found.values) == ("shape_expression", "x", 0, ("5",))


def test_the_limit_of_recompiles_is_a_break_that_names_the_function():
    x = torch.ones(3)
    with torch._dynamo.config.patch(recompile_limit=2):
        watched = called(Counting(), (x,), (x,), (x,), (x,))
    (found,) = watched.report.breaks
    assert found.code == "GB0039"
    assert (found.place.function, found.outcome) == ("forward", "skipped")
    assert [(r.so_far, r.limit, r.values) for r in watched.report.recompiles] == [(2, 2, ("0", "1"))]
