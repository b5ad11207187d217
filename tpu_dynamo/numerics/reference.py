"""A graph's operators called one by one in eager PyTorch on the CPU, in their own dtypes or in float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from tpu_dynamo_lowering import Functional, Operator, user_line

from .._torch_compat import OpOverload, pytree

Values = dict[Node, Any]

_WIDE = {
    torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64,
    torch.complex32: torch.complex128, torch.complex64: torch.complex128,
}  # fmt: skip


class CannotRun(RuntimeError):
    """An operator that eager PyTorch does not compute on the CPU."""

    def __init__(self, node: Node, why: str):
        self.node = node
        line = user_line(node)
        super().__init__(f"{node.target} does not run in eager on the CPU: {why}" + (f"\n  at {line}" if line else ""))


class Reference:
    """Runs operators of one graph. double: compute in float64, whatever the dtypes are."""

    def __init__(self, graph: Functional, double: bool = False):
        self._double = double
        self._constants: Values = {
            node: value if isinstance(value, GraphModule) else self.take(value)
            for node, value in graph.constants.items()
        }
        self.nonfinite: Operator | None = None

    def take(self, value: Any) -> Any:
        """Return a value of the graph's as this reference computes with it."""
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach().cpu()
        return value.to(_WIDE[value.dtype]) if self._double and value.dtype in _WIDE else value

    def run(self, operators: Sequence[Operator], values: Mapping[Node, Any], keep: Collection[Node]) -> Values:
        """Compute operators in order from values that are there; return those of `keep`.

        Values that are given already, as drawn ones, are not computed. The first operator whose operands are finite and
        whose result is not becomes `nonfinite`. Raises CannotRun.
        """
        known: Values = {**self._constants, **{node: self.take(value) for node, value in values.items()}}
        last_use: dict[Node, int] = {}
        for i, each in enumerate(operators):
            for node in each.nodes:
                last_use.update((operand, i) for operand in node.all_input_nodes)
        dead: dict[int, list[Node]] = {}
        for node, i in last_use.items():
            dead.setdefault(i, []).append(node)
        kept = {*keep, *self._constants}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for i, each in enumerate(operators):
                for node in each.nodes:
                    if node not in known:
                        known[node] = self._call(node, known)
                self._note_nonfinite(each, known)
                for node in dead.get(i, ()):
                    if node not in kept:
                        known.pop(node, None)
        return {node: known[node] for node in keep}

    def _call(self, node: Node, known: Values) -> Any:
        target: Any = node.target
        if getattr(target, "__module__", "").startswith("tpu_dynamo_lowering"):
            raise CannotRun(node, "it is a mark of the lowering's")
        operands = torch.fx.map_arg((node.args, node.kwargs), known.__getitem__)
        if self._double:
            try:
                return self._computed(target, map_aggregate(operands, self._widened))
            except (RuntimeError, TypeError, ValueError, NotImplementedError):
                # Without a float64 form, as operators on bits and on quantised values: in its own dtypes.
                operands = torch.fx.map_arg((node.args, node.kwargs), lambda each: _as_declared(each, known[each]))
        try:
            return self._computed(target, operands)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CannotRun(node, str(error).splitlines()[0] if str(error) else type(error).__name__) from error

    def _computed(self, target: Any, operands: Any) -> Any:
        args, kwargs = map_aggregate(operands, _on_cpu)
        result = target(*args, **kwargs)
        return pytree.tree_map_only(torch.Tensor, self.take, result)

    @staticmethod
    def _widened(argument: Any) -> Any:
        return _WIDE.get(argument, argument) if isinstance(argument, torch.dtype) else argument

    def _note_nonfinite(self, each: Operator, known: Values) -> None:
        if self.nonfinite is not None or all(_is_finite(known.get(node)) for node in each.values):
            return
        operands = pytree.tree_leaves((each.node.args, each.node.kwargs))
        if all(_is_finite(known.get(e) if isinstance(e, Node) else e) for e in operands):
            self.nonfinite = each


def as_promised(node: Node, value: torch.Tensor) -> bool:
    """Tell whether eager's result has the shape and dtype that the operator's fake tensor promises.

    Some differ, as `_embedding_bag` in half precision: nothing says what such a result is.
    """
    fake = node.meta["val"]
    return (value.shape, value.dtype) == (fake.shape, fake.dtype)


def _on_cpu(argument: Any) -> Any:
    return torch.device("cpu") if isinstance(argument, torch.device) else argument


def _as_declared(node: Node, value: Any) -> Any:
    fake = node.meta.get("val")
    return value.to(fake.dtype) if isinstance(value, torch.Tensor) and isinstance(fake, torch.Tensor) else value


def _is_finite(value: Any) -> bool:
    """Return True for what holds no nan and no infinity."""
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all()) if value.is_floating_point() or value.is_complex() else True
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or value - value == 0


def operator_name(operator: Operator) -> str:
    """Return an operator's name for people, as `aten.mul.Tensor`."""
    target = operator.node.target
    return str(target) if isinstance(target, OpOverload) else getattr(target, "__name__", str(target))
