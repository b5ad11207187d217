"""tpu_dynamo.decode_loop: many steps of decoding in one executable."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.decoders import DECODERS, decoder


def prompts(batch=2, length=7):
    return torch.randint(3, 60, (batch, length), generator=torch.Generator().manual_seed(length))


def generated(model, tokens, count, **settings):
    mask = settings.pop("attention_mask", torch.ones_like(tokens))
    return model.generate(tokens, attention_mask=mask, max_new_tokens=count, do_sample=False, **settings)


def doubling(tokens, state):
    """Score twice the last token, and count the tokens."""
    scores = torch.nn.functional.one_hot(tokens * 2 % 11, 11).float()
    return scores, {"seen": state["seen"] + tokens.shape[1]}


def test_a_step_of_tensors_is_repeated_by_one_program():
    state = {"seen": torch.tensor(0)}
    start = torch.tensor([[1], [3]])
    tokens = tpu_dynamo.decode_loop(doubling, start, max_new_tokens=5, state=state)
    assert tokens.tolist() == [[1, 2, 4, 8, 5, 10], [3, 6, 1, 2, 4, 8]]
    assert state["seen"] == 5
    assert tpu_dynamo.stats().lowerings == 2
    assert tpu_dynamo.stats().executions == 2
    parts = list(tpu_dynamo.decode_loop(doubling, start, max_new_tokens=5, state=state, stream=2, cache_length=6))
    assert [part.tolist() for part in parts] == [[[2, 4], [6, 1]], [[8, 5], [2, 4]], [[10], [8]]]
    assert tpu_dynamo.stats().lowerings == 2


def test_the_loop_stops_when_all_sequences_have_ended():
    state = {"seen": torch.tensor(0)}
    settings: Any = dict(max_new_tokens=9, state=state, eos_token_id=[8, 10], pad_token_id=0)
    tokens = tpu_dynamo.decode_loop(doubling, torch.tensor([[1], [3]]), **settings)
    assert tokens.tolist() == [[1, 2, 4, 8, 0, 0], [3, 6, 1, 2, 4, 8]]
    at_once = tpu_dynamo.decode_loop(doubling, torch.tensor([[4], [5]]), **settings)
    assert at_once.tolist() == [[4, 8], [5, 10]]
    streamed = tpu_dynamo.decode_loop(doubling, torch.tensor([[1], [3]]), stream=3, **settings)
    assert [part.shape[1] for part in streamed] == [3, 2]


def test_sampled_tokens_have_the_scores_distribution_and_follow_the_seed():
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.1])

    def fixed(tokens, state):
        return probabilities.log().expand(*tokens.shape, 4), state

    def draw(**settings):
        given: Any = dict(max_new_tokens=100, state=torch.zeros(1), do_sample=True) | settings
        return tpu_dynamo.decode_loop(fixed, torch.zeros(60, 1, dtype=torch.int64), **given)[:, 1:]

    def shares(tokens):
        return torch.bincount(tokens.flatten(), minlength=4) / tokens.numel()

    torch.manual_seed(0)
    tokens, others = draw(), draw()
    torch.manual_seed(0)
    assert torch.equal(draw(), tokens)
    assert not torch.equal(tokens, others)
    torch.testing.assert_close(shares(tokens), probabilities, atol=0.03, rtol=0)
    repeated = (tokens[:, 1:] == tokens[:, :-1]).float().mean()  # steps are independent of each other
    torch.testing.assert_close(repeated, (probabilities**2).sum(), atol=0.03, rtol=0)
    expected = torch.tensor([0.4, 0.3, 0, 0]) ** 2
    torch.testing.assert_close(
        shares(draw(temperature=0.5, top_k=3, top_p=0.7)), expected / expected.sum(), atol=0.03, rtol=0
    )


def test_a_gpt2_gives_the_tokens_of_generate_for_prompts_of_several_lengths():
    model = decoder("gpt2", num_hidden_layers=1)
    end = int(generated(model, prompts(), 12)[0, 15])
    options = {"buckets": "pow2"}
    for length in (7, 5, 8):
        tokens = prompts(length=length)
        mask = torch.ones_like(tokens)
        mask[1, :2] = 0
        ours = tpu_dynamo.decode_loop(
            model, tokens, attention_mask=mask, max_new_tokens=20 - length, eos_token_id=end, options=options
        )
        assert torch.equal(ours, generated(model, tokens, 20 - length, eos_token_id=end, attention_mask=mask))
    assert tpu_dynamo.stats().lowerings == 2


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (lambda: decoder("t5"), {}, "it has an encoder"),
        (lambda: decoder("gpt2", generation=dict(repetition_penalty=1.5)), {}, "repetition_penalty=1.5"),
        (lambda: decoder("mamba"), {}, "cache"),
        (lambda: lambda tokens, state: (tokens, {}), dict(state=torch.zeros(1)), "a state of 1 tensors and returns 0"),
        (lambda: lambda tokens, n: (tokens, n + 1), dict(state=1), "the state holds int"),
        (
            lambda: lambda tokens, state: (tokens, torch.cat([state, tokens], 1)),
            dict(state=torch.zeros(2, 1, dtype=torch.int64)),
            "a loop's state keeps its shapes",
        ),
    ],
    ids=["encoder", "processor", "cache", "fewer tensors", "numbers", "growing"],
)
def test_what_a_loop_cannot_do_is_refused_in_words(model, settings, message):
    with pytest.raises(Exception, match=message):
        tpu_dynamo.decode_loop(model(), prompts(), max_new_tokens=2, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(max_new_tokens=0), "at least 1"),
        (dict(max_new_tokens=2, temperature=0.0, do_sample=True), "temperature"),
        (dict(max_new_tokens=2, top_k=0), "top_k"),
        (dict(max_new_tokens=2, top_p=1.5), "top_p"),
        (dict(max_new_tokens=9, cache_length=8), "no room"),
        (dict(max_new_tokens=2, options={"freeze": True}), "freeze"),
        (dict(max_new_tokens=2, attention_mask=torch.tensor([[1, 0]])), "zeros before each prompt"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tpu_dynamo.decode_loop(doubling, torch.tensor([[1, 2]]), state={"seen": torch.tensor(0)}, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_decoders_give_the_tokens_of_generate(name, device):
    model, tokens = decoder(name), prompts(length=9)
    theirs = generated(model, tokens, 24)
    model.to(device)
    ours = tpu_dynamo.decode_loop(model, tokens.to(device), max_new_tokens=24)
    assert torch.equal(ours.cpu(), theirs)
    assert tpu_dynamo.stats().graphs == {"inference": 2}
    sampled = tpu_dynamo.decode_loop(model, tokens.to(device), max_new_tokens=24, do_sample=True, top_k=5, stream=10)
    assert [part.shape for part in sampled] == [(2, 10), (2, 10), (2, 4)]


SECOND = """
import tpu_dynamo
from tests.decoders import decoder
from tests.tpu_dynamo.test_decode_loop import prompts
tpu_dynamo.decode_loop(decoder("llama"), prompts(), max_new_tokens=8, do_sample=True)
print("LOWERINGS", tpu_dynamo.stats().lowerings, tpu_dynamo.stats().xla_compiles, dict(tpu_dynamo.stats().autograd_cache))
"""


@pytest.mark.slow
def test_another_process_lowers_and_compiles_nothing():
    outputs = [
        subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "LOWERINGS 2 2" in outputs[0]
    assert "LOWERINGS 0 0 {'hit': 2}" in outputs[1]
