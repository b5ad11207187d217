"""A slow line, a needless transpose and a copy to the host and back, leads the table of any model that it is planted in."""

from __future__ import annotations

import pytest
import torch

import tpu_dynamo
from tests.models.transformers_models import TEXT, decoder, encoder, image

from .runs import assert_adds_up, line_of

MODELS = {
    "decoder": ("LlamaForCausalLM", dict(TEXT, num_key_value_heads=2), decoder),
    "encoder": ("BertForMaskedLM", TEXT, encoder),
    "images": (
        "ResNetForImageClassification",
        dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5),
        image(32),
    ),
}


class Slow(torch.nn.Module):
    """A model, and a table beside it that each call takes over the host."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("table", torch.ones(2048, 2048))

    def forward(self, **inputs):
        found = self.model(**inputs)[0]
        return found + self.crossing()

    @torch.compiler.disable
    def crossing(self):
        return self.table.transpose(0, 1).contiguous().cpu().to("tpu")[0, 0]  # planted


@pytest.mark.parametrize("name", MODELS)
def test_a_planted_line_is_first(name):
    transformers = pytest.importorskip("transformers")
    kind, settings, inputs = MODELS[name]
    model = getattr(transformers, kind)
    model = Slow(model(model.config_class(**settings)).eval()).to("tpu")
    given = {key: value.to("tpu") if torch.is_tensor(value) else value for key, value in inputs().items()}
    compiled = torch.compile(model, backend="tpu")
    with torch.no_grad():
        compiled(**given), compiled(**given)
        with tpu_dynamo.profile() as run:
            for _ in range(3):
                compiled(**given)
    profile = run.profile
    assert_adds_up(profile)
    first = profile.lines[0]
    assert (first.file, first.line) == (__file__, line_of("# plant" + "ed", __file__))
    assert first.parts["transfer"] > 0
    assert first.parts["host"] > 0  # the host reaches the memory, and transposes it
    assert len(profile.steps) == 3
