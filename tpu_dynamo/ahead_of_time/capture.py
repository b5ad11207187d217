"""Capturing a model's graphs by calling it once on tensors without values."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import SourceLine, is_own

from .._torch_compat import (
    BackendCompilerFailed,
    DataDependentOutputException,
    DynamicOutputShapeException,
    compile_with_aot_autograd,
    compiled_apart,
    fake_copies,
    pytree,
    unset_fake_temporarily,
)
from ..cache.signature import Frame
from ..errors import NeedsValues, NotALoss
from ..graph.compiled import EagerGraph
from ..graph.inputs import check_inputs
from ..graph.prepare import captured_frame
from ..options import Options

# Told each graph: its role, the functional ATen graph, its example inputs, and where it comes from. May give what
# AOTAutograd is to call in the graph's place, with a list of inputs; None for the graph itself.
Visitor = Callable[[str, GraphModule, Sequence[Any], Frame], Callable[[list[Any]], list[Any]] | None]
Loss = Callable[[Any], torch.Tensor]
# Arguments, and arguments by name.
Call = tuple[Sequence[Any], Mapping[str, Any]]


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
    then: Sequence[Call] = (),
    dynamic: bool | None = None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    real: bool = False,
) -> None:
    """Show `visit` every graph that a call of `model` consists of, as the backend would get it.

    Nothing is computed, and nothing is changed: parameters, buffers and inputs are replaced by fake tensors on
    `device` of their shapes, so meta tensors do. training: also the graphs of the backward pass, from `loss` of
    what the model returns. options: how training graphs are cut. then: further calls after the first, as those of other
    sizes, for which Dynamo may make sizes symbolic. dynamic: as torch.compile's. around: a context for each call, as
    autocast. real: run on the tensors as they are, in eager PyTorch. Raises what `visit` raises, and NeedsValues
    when code between graphs looks at values.
    """
    options = options or Options()
    calls: list[Call] = [(tuple(a), dict(k or {})) for a, k in ((args, kwargs), *then)]

    def backend(graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        check_inputs(graph_module, example_inputs)
        frame = captured_frame(graph_module)
        return compile_with_aot_autograd(
            graph_module,
            example_inputs,
            forward=partial(compiler, frame, "forward"),
            backward=partial(compiler, frame, "backward"),
            inference=partial(compiler, frame, "inference"),
            partitioner=options.partitioner,
            activation_memory_budget=options.activation_memory_budget,
        )

    def compiler(
        frame: Frame, role: str, graph_module: GraphModule, example_inputs: Sequence[Any]
    ) -> Callable[[list[Any]], list[Any]]:
        # AOTAutograd calls compilers with its fake tensors switched on; constants are real.
        with unset_fake_temporarily():
            instead = visit(role, graph_module, example_inputs, frame)
        return instead or EagerGraph(graph_module)

    try:
        with (
            _random_numbers_kept(),
            nullcontext(calls) if real else fake_copies(model, calls, device) as given,
            compiled_apart(model, backend, dynamic) as compiled,
            torch.set_grad_enabled(training),
        ):
            for call_args, call_kwargs in given:
                with around():
                    output = compiled(*call_args, **call_kwargs)
                    scalar = (loss or default_loss)(output) if training else None
                if scalar is not None:
                    scalar.backward()
    except BackendCompilerFailed as failure:
        raise failure.inner_exception from failure
    except (DataDependentOutputException, DynamicOutputShapeException) as unknown:
        raise NeedsValues(str(unknown.func), _own_line(unknown)) from unknown


def default_loss(output: Any) -> torch.Tensor:
    """Return the scalar to differentiate by default: the output's own `loss`, else the sum of its tensors."""
    fields = dict(output) if isinstance(output, Mapping) else output
    loss = fields.get("loss") if isinstance(fields, dict) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        return loss.sum()
    tensors = [leaf for leaf in pytree.tree_leaves(fields) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not tensors:
        raise NotALoss(
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
    """Return the innermost line of the user's that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    return SourceLine(frames[-1].filename, frames[-1].lineno or 0, frames[-1].name) if frames else None
