"""Capturing a model's graphs by calling it once on tensors without values."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from tpu_dynamo_lowering import SourceLine, is_own

from ._torch_compat import (
    BackendCompilerFailed,
    DataDependentOutputException,
    DynamicOutputShapeException,
    compile_with_aot_autograd,
    compiled_apart,
    fake_copies,
    unset_fake_temporarily,
)
from .compiled import EagerGraph
from .errors import NeedsValues
from .inputs import check_inputs
from .options import Options

# Told each graph: its role, the functional ATen graph, and its example inputs.
Visitor = Callable[[str, GraphModule, Sequence[Any]], None]
Loss = Callable[[Any], torch.Tensor]


def capture(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    visit: Visitor,
    *,
    training: bool = False,
    loss: Loss | None = None,
    options: Options | None = None,
    device: str = "cpu",
) -> None:
    """Show `visit` every graph that a call of `model` consists of, as the backend would get it.

    Nothing is computed, and nothing is changed: parameters, buffers and inputs are replaced by fake tensors on
    `device` of their shapes, so meta tensors do. training: also the graphs of the backward pass, from `loss` of
    what the model returns. options: how training graphs are cut. Raises what `visit` raises, and NeedsValues when
    code between graphs looks at values.
    """
    options = options or Options()

    def backend(graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        check_inputs(graph_module, example_inputs)
        return compile_with_aot_autograd(
            graph_module,
            example_inputs,
            forward=partial(compiler, "forward"),
            backward=partial(compiler, "backward"),
            inference=partial(compiler, "inference"),
            partitioner=options.partitioner,
            activation_memory_budget=options.activation_memory_budget,
        )

    def compiler(role: str, graph_module: GraphModule, example_inputs: Sequence[Any]) -> EagerGraph:
        # AOTAutograd calls compilers with its fake tensors switched on; constants are real.
        with unset_fake_temporarily():
            visit(role, graph_module, example_inputs)
        return EagerGraph(graph_module)

    try:
        with (
            _random_numbers_kept(),
            fake_copies(model, (tuple(args), dict(kwargs or {})), device) as (fake_args, fake_kwargs),
            compiled_apart(model, backend) as compiled,
            torch.set_grad_enabled(training),
        ):
            output = compiled(*fake_args, **fake_kwargs)
            if training:
                (loss or default_loss)(output).backward()
    except BackendCompilerFailed as failure:
        raise failure.inner_exception from failure
    except (DataDependentOutputException, DynamicOutputShapeException) as unknown:
        raise NeedsValues(str(unknown.func), _own_line(unknown)) from unknown


def default_loss(output: Any) -> torch.Tensor:
    """What a backward pass starts from when nobody says: the output's own `loss`, else the sum of its tensors."""
    fields = dict(output) if isinstance(output, Mapping) else output
    loss = fields.get("loss") if isinstance(fields, dict) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        return loss.sum()
    tensors = [leaf for leaf in pytree.tree_leaves(fields) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not tensors:
        raise ValueError(
            "training=True, but nothing that the model returns requires a gradient\n"
            "  try: parameters with requires_grad, an input that requires it, or training=False"
        )
    return torch.stack([tensor.sum() for tensor in tensors]).sum()


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Leave the generators of Python, NumPy and PyTorch's CPU as they were: the model's code may draw."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _own_line(error: BaseException) -> SourceLine | None:
    """The innermost line of the user's that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    return SourceLine(frames[-1].filename, frames[-1].lineno or 0, frames[-1].name) if frames else None
