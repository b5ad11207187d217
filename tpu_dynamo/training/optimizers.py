"""An optimizer's step as a graph: PyTorch's own code, traced on parameters, gradients, state and learning rates."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from tpu_dynamo_lowering import with_code

from .._torch_compat import (
    gradient_has_hooks,
    group_initialiser,
    holds_tensors,
    step_has_hooks,
    traced_as_compiled,
)
from .adafactor import adafactor_step
from .numbers import NumberPath, is_nonzero
from .tensor_numbers import TensorNumbers


class UnsupportedOptimizer(NotImplementedError):
    """An optimizer whose step cannot be part of a program."""

    code = "TPU106"

    def __init__(self, optimizer: Optimizer, why: str, hint: str):
        message = f"{type(optimizer).__name__} cannot be part of a training step: {why}\n  try: {hint}"
        super().__init__(with_code(message, self.code))


_HINT = 'compile the model alone, torch.compile(model, backend="tpu"), and call the optimizer in eager'


@dataclass(frozen=True)
class StateKey:
    """The key of a tensor in an optimizer's state: the parameter's number, and the tensor's name."""

    parameter: int
    name: str


def is_torchs(optimizer: Optimizer) -> bool:
    """Return True for an optimizer of torch.optim; these treat each parameter by itself."""
    return type(optimizer).__module__.startswith("torch.optim.")


# Those of torch.optim whose update of an element depends on that element's gradient and state alone.
_ELEMENTWISE = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "ASGD", "RMSprop", "Rprop",
)  # fmt: skip


def is_elementwise(optimizer: Optimizer) -> bool:
    """Return True for an optimizer that is as right on a part of a parameter as on the whole."""
    return is_torchs(optimizer) and type(optimizer).__name__ in _ELEMENTWISE


def check(optimizer: Optimizer) -> None:
    """Raise UnsupportedOptimizer for an optimizer that no program can run: with closures, sparse gradients or hooks."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UnsupportedOptimizer(optimizer, "it evaluates the loss as often as the values ask for", _HINT)
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise UnsupportedOptimizer(optimizer, "it takes sparse gradients, and XLA has dense tensors only", _HINT)
    if step_has_hooks(optimizer):
        raise UnsupportedOptimizer(optimizer, "its step has hooks, which run in Python", _HINT)
    for group in optimizer.param_groups:
        if group.get("differentiable"):
            raise UnsupportedOptimizer(optimizer, "with differentiable=True its step is differentiated itself", _HINT)
        for name, value in group.items():
            if isinstance(value, torch.Tensor) and value.numel() != 1:
                why = (
                    f"{name} of a group is a tensor of {value.numel()} elements, which would be frozen into the program"
                )
                raise UnsupportedOptimizer(optimizer, why, _HINT)
        if any(map(gradient_has_hooks, group["params"])):
            why = "gradients of its parameters have hooks, which run in Python"
            raise UnsupportedOptimizer(optimizer, why, _HINT)


def initialise(optimizer: Optimizer, parameters: Sequence[torch.nn.Parameter]) -> None:
    """Make the state that a first step begins with, on the device, for the parameters that have none."""
    own = set(parameters)
    for group in optimizer.param_groups:
        fresh = [p for p in group["params"] if p in own and not optimizer.state.get(p)]
        if fresh:
            _initialise(optimizer, group, fresh)
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            # Counts of steps, which PyTorch leaves on the CPU unless `capturable` is set.
            if isinstance(value, torch.Tensor) and value.device != parameter.device:
                state[name] = value.to(parameter.device)


def _initialise(optimizer: Optimizer, group: dict[str, Any], fresh: Sequence[torch.nn.Parameter]) -> None:
    if isinstance(optimizer, torch.optim.SGD) and group["momentum"] and not group["dampening"]:
        for parameter in fresh:  # the first step makes the gradient the momentum, as zeros do
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return
    make = group_initialiser(optimizer)
    if make is None:
        return
    # It makes state for the parameters that have gradients, and appends to the lists that it is given.
    gradients, new = [(p, p.grad) for p in group["params"]], set(fresh)
    try:
        for parameter, _ in gradients:
            parameter.grad = torch.empty_like(parameter) if parameter in new else None
        make(group, *([] for _ in list(inspect.signature(make).parameters)[1:]))
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


def state_keys_of(optimizer: Optimizer, parameters: Sequence[torch.nn.Parameter]) -> list[StateKey]:
    """Return the keys of the tensors in the parameters' state, in a fixed order.

    Raises UnsupportedOptimizer for numbers in the state, which change from step to step, and for tensors that hold
    several, as those of 8-bit optimizers.
    """
    state_keys = []
    for number, parameter in enumerate(parameters):
        for name, value in optimizer.state.get(parameter, {}).items():
            _check_plain(optimizer, name, value)
            if isinstance(value, torch.Tensor):
                state_keys.append(StateKey(number, name))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                why = f"its state has the number {name}={value!r}, which would be frozen into the program"
                raise UnsupportedOptimizer(optimizer, why, f"keep {name} in a tensor, or {_HINT}")
    return state_keys


def _check_plain(optimizer: Optimizer, name: str, value: Any) -> None:
    if holds_tensors(value):
        why = f"{name} of its state is of the type {type(value).__name__}, which holds several tensors"
        raise UnsupportedOptimizer(optimizer, why, _HINT)


def step_function(
    optimizer: Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    state_keys: Sequence[StateKey],
    numbers: Sequence[NumberPath],
) -> tuple[Callable[..., list[torch.Tensor]], list[StateKey]]:
    """Return the step as a function of tensors: parameters, their gradients, state, and numbers of groups.

    state_keys, numbers: which state and which numbers these are. The function returns the new parameters and the new
    state. Once it was called, the list has the keys of that state, to which a step may add.
    """
    written: list[StateKey] = []

    def step(*tensors: torch.Tensor) -> list[torch.Tensor]:
        count = len(parameters)
        own, gradients = tensors[:count], tensors[count : 2 * count]
        state, values = tensors[2 * count : 2 * count + len(state_keys)], tensors[2 * count + len(state_keys) :]
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient
        given: dict[torch.Tensor, dict[str, Any]] = defaultdict(dict)
        for state_key, value in zip(state_keys, state, strict=True):
            given[own[state_key.parameter]][state_key.name] = _wide(value)
        copy = _copy(optimizer, dict(zip(parameters, own, strict=True)), given)
        for path, value in zip(numbers, values, strict=True):
            _set(copy, path, value)
        nonzero = {id(v): is_nonzero(_get(optimizer, p)) for p, v in zip(numbers, values, strict=True) if p[1] != "lr"}
        try:
            with torch.no_grad(), TensorNumbers(nonzero), traced_as_compiled():
                _plain_step(optimizer)(copy)
        except NotImplementedError:
            raise
        except RuntimeError as error:  # as of `tolist()`, whose values a trace does not have
            for name, value in (item for made in copy.state.values() for item in made.items()):
                _check_plain(optimizer, name, value)
            raise UnsupportedOptimizer(optimizer, f"its step cannot be traced: {error}", _HINT) from error
        found = {StateKey(i, n): v for i, p in enumerate(own) for n, v in copy.state.get(p, {}).items()}
        found = {state_key: value for state_key, value in found.items() if isinstance(value, torch.Tensor)}
        for state_key, value in found.items():
            _check_plain(optimizer, state_key.name, value)
        dtypes = {state_key: value.dtype for state_key, value in zip(state_keys, state, strict=True)}
        written[:] = found
        return [*own, *(value.to(dtypes.get(state_key, value.dtype)) for state_key, value in found.items())]

    return step, written


def _get(optimizer: Optimizer, path: NumberPath) -> Any:
    group, name, index = path
    value = optimizer.param_groups[group][name]
    return value if index is None else value[index]


def _set(optimizer: Optimizer, path: NumberPath, value: torch.Tensor) -> None:
    group, name, index = path
    values = optimizer.param_groups[group]
    values[name] = value if index is None else (*values[name][:index], value, *values[name][index + 1 :])


def _plain_step(optimizer: Optimizer) -> Callable[[Optimizer], Any]:
    if isinstance(optimizer, torch.optim.Adafactor):
        return adafactor_step
    return inspect.unwrap(type(optimizer).step)


def _wide(value: torch.Tensor) -> torch.Tensor:
    """Return a copy, of counts and products of numbers in float64, as Python computes them in an eager step."""
    return value.double() if value.ndim == 0 and value.is_floating_point() else value.clone()


def _copy(optimizer: Optimizer, tensors: Mapping[torch.nn.Parameter, torch.Tensor], state: Any) -> Optimizer:
    """Return an optimizer of the same kind and settings over other parameters, those that `tensors` has."""
    copy = object.__new__(type(optimizer))
    copy.__dict__.update(optimizer.__dict__)
    copy.state = state
    copy.param_groups = []
    for group in optimizer.param_groups:
        own = {**group, "params": [tensors[p] for p in group["params"] if p in tensors]}
        if "capturable" in group:
            own["capturable"] = True  # counts of steps are operands
        for form in ("foreach", "fused"):  # alike in one program
            if form in group:
                own[form] = False
        copy.param_groups.append(own)
    return copy
