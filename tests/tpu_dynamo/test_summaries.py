"""Misses in one line, in the words of who wrote the model."""

from __future__ import annotations

import pytest

from tpu_dynamo.cache.summaries import graph_name, input_name, is_near, summarise


def tensor(*size: int, dtype: str = "float32", stride: list[int] | None = None, device: str = "cpu"):
    return {"dtype": dtype, "size": list(size), "stride": stride or [1] * len(size), "device": device}


def text(*operations: str) -> str:
    return "\n".join(["%0 = placeholder : torch.float32[2][1]+0 cpu", *operations])


PLAIN = ("%1 = aten.mul.Tensor (%0, 2.0) {}: torch.float32[2][1]+0 cpu", "%2 = aten.sin.default (%1) {}: f")


def parts(graph: str = text(*PLAIN), function: str = "scaled", role: str = "inference", inputs=None, **keyed):
    told = {"role": role, "function": function, "code": [line.split(" ")[2:3] for line in graph.splitlines()]}
    told |= {"inputs": inputs or {"L['x']": tensor(2)}, "guards": []}
    return {"key_parts": {"graph": graph + str(inputs), "platform": "cpu", **keyed}, "explanation": told, "text": graph}


def told(was, now) -> str:
    return summarise(was, now, lambda: (was["text"], now["text"]), lambda number: f"model.py:{10 + number}")


WEIGHTS = {f"L['self']._modules['{n}']._parameters['weight']": tensor(4, 4) for n in "abc"}
LINES = {
    "size": ({"inputs": {"L['x']": tensor(3)}}, "x has shape (3,), was (2,)"),
    "rank": ({"inputs": {"L['x']": tensor(2, 3)}}, "x has shape (2, 3), was (2,)"),
    "dtype": ({"inputs": {"L['x']": tensor(2, dtype="bfloat16")}}, "x is bfloat16, was float32"),
    "strides": ({"inputs": {"L['x']": tensor(2, stride=[5])}}, "x has strides (5,), was (1,)"),
    "device": ({"inputs": {"L['x']": tensor(2, device="tpu")}}, "x is on tpu, was on cpu"),
    "more inputs": ({"inputs": {"L['x']": tensor(2), "L['mask']": tensor(2)}}, "mask comes in"),
    "option": ({"options": {"partitioner": "default"}}, "option partitioner is default, was min_cut"),
    "version": ({"versions": {"jaxlib": "2"}}, "jaxlib is 2, was 1"),
    "our code": ({"lowering": {"code": "b"}}, "tpu_dynamo itself, or a table of operators, is another"),
    "platform": ({"platform": "tpu"}, "the platform is tpu, was cpu"),
    "constant": (
        {"graph": text(PLAIN[0].replace("2.0", "3.0"), PLAIN[1])},
        "aten.mul.Tensor takes 3.0, was 2.0 (model.py:11)",
    ),
    "operator": (
        {"graph": text(PLAIN[0], PLAIN[1].replace("sin", "cos"))},
        "aten.cos.default in the place of aten.sin.default (model.py:12)",
    ),
    "operation": ({"graph": text(PLAIN[0])}, "aten.sin.default is no longer an operation"),
}


@pytest.mark.parametrize("name", LINES)
def test_what_differs_is_said_in_pytorchs_words(name):
    changes, expected = LINES[name]
    settings = {"options": {"partitioner": "min_cut"}, "versions": {"jaxlib": "1"}, "lowering": {"code": "a"}}
    was, now = parts(**settings), parts(**(settings | changes))
    assert is_near(was, now, lambda: (was["text"], now["text"]))
    assert told(was, now) == expected


def test_equal_changes_of_many_inputs_are_one_phrase_that_begins_with_the_functions_own():
    halves = {name: {**value, "dtype": "bfloat16"} for name, value in WEIGHTS.items()}
    was = parts(inputs={**WEIGHTS, "L['x']": tensor(2)})
    now = parts(inputs={**halves, "L['x']": tensor(2, dtype="bfloat16")})
    assert told(was, now) == "x and 3 more are bfloat16, were float32"
    assert (
        told(was, parts(inputs={**halves, "L['x']": tensor(2)}))
        == "self.a.weight and 2 more are bfloat16, were float32"
    )


def test_many_differences_are_counted():
    was = parts(inputs={f"L['{name}']": tensor(size) for size, name in enumerate("abcdef", 1)})
    now = parts(inputs={f"L['{name}']": tensor(size + 10) for size, name in enumerate("abcdef", 1)})
    assert told(was, now) == (
        "a has shape (11,), was (1,); b has shape (12,), was (2,); c has shape (13,), was (3,); and 3 more differences"
    )


STRANGERS = {
    "another function": parts(function="other", inputs={"L['x']": tensor(3)}),
    "another role": parts(role="backward", inputs={"L['x']": tensor(3)}),
    "another body": parts(text(*(f"%{i} = aten.exp.default (%{i - 1}) {{}}: f" for i in range(1, 9)))),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_not_near(name):
    was, now = parts(), STRANGERS[name]
    assert not is_near(was, now, lambda: (was["text"], now["text"]))


def test_the_same_graph_of_another_function_is_near():
    was, now = parts(), parts(function="renamed", platform="tpu")
    assert is_near(was, now, lambda: (None, None))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("L['x']", "x"),
        ("L['kwargs']['mask']", "mask"),
        ("L['args'][0]", "args[0]"),
        ("L['self']._modules['layers']._modules['0']._parameters['weight']", "self.layers.0.weight"),
        ("L['___stack0']", "the result of the call before"),
        ("tangents_1", "the gradient of output 1"),
    ],
)
def test_inputs_are_called_as_in_the_code(source, name):
    assert input_name(source) == name


@pytest.mark.parametrize(
    ("function", "role", "name"),
    [
        ("Net.forward", "forward", "Net, forward"),
        ("train.<locals>.loss", "inference", "loss"),
        (
            "Net.torch_dynamo_resume_in_forward_at_12",
            "inference",
            "Net, after the graph break at line 12",
        ),
        ("", "step", "step"),
    ],
)
def test_graphs_are_named_after_their_functions(function, role, name):
    assert graph_name(function, role) == name
