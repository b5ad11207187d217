"""Whole models, forward, as one graph, against eager PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import tpu_dynamo

from . import plain_models, transformers_models

pytestmark = pytest.mark.sampled(4)


def tensors(output: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(dict(output) if hasattr(output, "to_tuple") else output)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def agrees(model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    """The compiled model gives eager's values, to 1e-4 of the largest: many layers of float32 apart."""
    with torch.no_grad():
        expected = tensors(model(*args, **kwargs))
        actual = tensors(torch.compile(model, backend="tpu", fullgraph=True)(*args, **kwargs))
    assert tpu_dynamo.stats().graphs == {"inference": 1}
    for ours, theirs in zip(actual, expected, strict=True):
        assert float(theirs.float().std()) > 1e-6, "an output that is constant would agree with anything"
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", plain_models.MODELS)
def test_plain_models_forward(name):
    model, inputs = plain_models.MODELS[name]
    agrees(model().eval(), *inputs())


@pytest.mark.parametrize("name", transformers_models.MODELS)
def test_transformers_models_forward(name):
    model, inputs = transformers_models.build(name)
    agrees(model, **inputs)


@pytest.mark.slow
def test_bert_at_many_sizes_is_traced_at_most_three_times():
    from torch._dynamo.testing import CompileCounterWithBackend

    model, _ = transformers_models.build("Electra")
    counter = CompileCounterWithBackend("tpu")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        for batch in (1, 2, 3, 5):
            for length in (6, 9, 16):
                ids = torch.randint(3, 120, (batch, length))
                mask = torch.ones_like(ids)
                mask[-1, length // 2 :] = 0
                given = {"input_ids": ids, "attention_mask": mask}
                torch.testing.assert_close(compiled(**given).logits, model(**given).logits, rtol=1e-4, atol=1e-4)
    assert counter.frame_count <= 3


def test_bfloat16_weights_agree_with_eager_as_far_as_bfloat16_goes():
    model, inputs = transformers_models.build("Qwen3")
    model = model.to(torch.bfloat16)
    with torch.no_grad():
        exact = model.float()(**inputs).logits
        eager = model.bfloat16()(**inputs).logits.float()
        ours = torch.compile(model, backend="tpu", fullgraph=True)(**inputs).logits.float()
    assert float((ours - exact).abs().max()) <= 2 * float((eager - exact).abs().max())
