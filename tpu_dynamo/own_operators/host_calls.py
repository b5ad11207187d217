"""Eager calls of a JAX function's operator with CPU tensors: each kind of call is a program of the CPU client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tpu_dynamo_lowering import trace

from .._torch_compat import OpOverload, pytree
from ..artifacts import next_name
from ..device.fresh_thread import in_fresh_thread
from ..graph.prepare import BoxedCallable, PreparedGraph
from ..graph.specialise import specialise
from ..options import Options

_MAX_PROGRAMS = 1024


class HostCalls:
    """The CPU kernel of an operator."""

    def __init__(self, operator: OpOverload):
        self._operator = operator
        self._programs: dict[Any, BoxedCallable] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the operator's results. Raises UnsupportedOp and CompilationFailed as compiled graphs do."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        tensors = [leaves[i] for i in places]
        kinds = tuple((tuple(t.shape), t.stride(), t.dtype) for t in tensors)
        others = repr([None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves])
        key = kinds, others, structure, torch.get_float32_matmul_precision()
        if key not in self._programs:
            if len(self._programs) >= _MAX_PROGRAMS:
                self._programs.clear()
            self._programs[key] = in_fresh_thread(lambda: self._compile(leaves, structure, places))
        results = list(self._programs[key](tensors))
        returns = self._operator._schema.returns
        if len(returns) == 1 and "Tensor[]" in str(returns[0].type).replace("List[Tensor]", "Tensor[]"):
            return results
        return results[0] if len(results) == 1 else tuple(results)

    def _compile(self, leaves: Sequence[Any], structure: pytree.TreeSpec, places: Sequence[int]) -> BoxedCallable:
        def call(*tensors: torch.Tensor) -> list[Any]:
            mixed = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                mixed[place] = tensor
            args, kwargs = pytree.tree_unflatten(mixed, structure)
            return pytree.tree_leaves(self._operator(*args, **kwargs))

        specs = [(tuple(leaves[i].shape), leaves[i].stride(), leaves[i].dtype) for i in places]
        module = trace(call, specs)
        graph = PreparedGraph(next_name("inference"), "inference", module, module, False)
        return specialise(graph, {}, Options(target="cpu"))[0]
