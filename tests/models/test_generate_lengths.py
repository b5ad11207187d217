"""transformers' `generate` after prompts of random lengths: eager's tokens, and few programs for all of them."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib
from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.decoders import decoder

pytestmark = pytest.mark.slow

NEW = 256
# The window of mistral is full long before the end.
FAMILIES = {"gpt2": {}, "llama": {}, "mistral": {"sliding_window": 64}, "qwen2": {}, "opt": {}}
POW2: Any = {"buckets": "pow2"}
PROCESS = "import sys; from tests.models.test_generate_lengths import in_a_process; in_a_process(*sys.argv[1:])"


def lengths(name: str, count: int = 3) -> list[int]:
    """Return lengths of prompts, random and the same in every run."""
    return random.Random(name).sample(range(33, 200), count)


def model_of(name: str, **generation: Any) -> Any:
    return decoder(name, generation, num_hidden_layers=1, **FAMILIES[name])


def prompts(length: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(length))


def generated(model: Any, tokens: torch.Tensor, device: str = "cpu", new: int = NEW, **settings: Any) -> torch.Tensor:
    torch.manual_seed(0)
    tokens = tokens.to(device)
    settings = {"do_sample": False, "max_new_tokens": new, **settings}
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), **settings).cpu()


def with_growing_cache(name: str, device: str = "cpu") -> Any:
    model = model_of(name).to(device)
    model.forward = torch.compile(model.forward, backend="tpu", dynamic=True, options=POW2)
    return model


def with_static_cache(monkeypatch: pytest.MonkeyPatch, **how: Any) -> dict[str, Any]:
    """Return the settings of `generate` for a static cache and a compiled step."""
    from transformers import CompileConfig

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "0")  # generate sets it when it compiles
    compiling: Any = CompileConfig(**{"backend": "tpu", "mode": "default", "fullgraph": False, "dynamic": False, **how})
    compiling._compile_all_devices = True
    room = {"max_length": 200 + NEW, "max_new_tokens": None}
    return {"cache_implementation": "static", "compile_config": compiling, **room}


def way_of(name: str, way: str, monkeypatch: pytest.MonkeyPatch, device: str = "cpu") -> tuple[Any, dict[str, Any]]:
    """Return a model whose steps are compiled, and the settings of `generate` for it."""
    if way == "growing":
        return with_growing_cache(name, device), {}
    # A window's layers count tokens in a Python int.
    window: dict[str, Any] = {"dynamic": True} if name == "mistral" else {}
    return model_of(name).to(device), with_static_cache(monkeypatch, **window)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_growing_cache_in_buckets(name, device):
    """8 programs: 5 of the cache's lengths from 64 to 512, and 3 of the prompts'."""
    model = with_growing_cache(name, device)
    for length in lengths(name):
        theirs = generated(model_of(name), prompts(length))
        assert torch.equal(generated(model, prompts(length), device), theirs)
    assert tpu_dynamo.stats().lowerings <= 8


def test_a_prompt_within_a_sliding_window():
    """The prompt, a token while there is room, two at the window's end and one behind it: graphs as many as eager's."""
    model = with_growing_cache("mistral")
    theirs = generated(model_of("mistral"), prompts(20), new=80)
    assert torch.equal(generated(model, prompts(20), new=80), theirs)
    stats = tpu_dynamo.stats()
    assert stats.graphs == {"inference": 5}
    assert stats.lowerings <= 6


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_prompts_with_padding_before_them(name):
    """The mask, which the model gets with each step, has one element more than the cache."""
    tokens, new = prompts(20, rows=2), 80
    mask = torch.ones_like(tokens)
    mask[1, :7] = 0
    model, plain = with_growing_cache(name), model_of(name)
    how = {"do_sample": False, "max_new_tokens": new, "attention_mask": mask}
    assert torch.equal(model.generate(tokens, **how), plain.generate(tokens, **how))
    assert tpu_dynamo.stats().lowerings <= 8


@pytest.mark.parametrize(
    ("name", "device"), [*((name, "cpu") for name in FAMILIES if name != "mistral"), ("llama", "tpu")]
)
def test_a_static_cache(name, device, monkeypatch):
    model, settings = model_of(name).to(device), with_static_cache(monkeypatch)
    for length in lengths(name):
        theirs = generated(model_of(name), prompts(length), **{**settings, "disable_compile": True})
        assert torch.equal(generated(model, prompts(length), device, **settings), theirs)
    stats = tpu_dynamo.stats()
    assert stats.graphs == {"inference": 1}
    assert device == "tpu" or stats.lowerings == 1  # on the device the prompt's eager operators have programs too


@pytest.mark.parametrize(("dynamic", "most"), [(True, 2), (None, 3)])
def test_a_static_cache_of_a_sliding_window(dynamic, most, monkeypatch):
    """Its layers count tokens in a Python int, which is an input: before and behind the window are a graph each."""
    model, settings = model_of("mistral"), with_static_cache(monkeypatch, dynamic=dynamic)
    for length in (20, 70):
        theirs = generated(model_of("mistral"), prompts(length), **{**settings, "disable_compile": True})
        assert torch.equal(generated(model, prompts(length), **settings), theirs)
    assert tpu_dynamo.stats().lowerings <= most


@pytest.mark.parametrize("way", ["growing", "static"])
@pytest.mark.parametrize("name", FAMILIES)
def test_sampled_tokens_are_those_of_the_same_seed(name, way, monkeypatch):
    model, settings = way_of(name, way, monkeypatch)
    for length in lengths(name, 2):
        how = {"do_sample": True, "top_k": 20, "temperature": 0.8, "top_p": 0.9, **settings}
        theirs = generated(model_of(name), prompts(length), **how, **({"disable_compile": True} if settings else {}))
        assert torch.equal(generated(model, prompts(length), **how), theirs)
    assert tpu_dynamo.stats().lowerings <= (8 if way == "growing" else 2)


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"assisted": True}, {"num_beams": 2, "do_sample": True}], ids=str)
def test_other_searches(how):
    """Beams have 5 programs; a model that checks what an assistant proposes also has those of a few tokens at once."""
    name, new = "llama", 48
    model = with_growing_cache(name)
    for length in (20, 45):
        assisting = {"assistant_model": model_of(name)} if "assisted" in how else {}
        settings = {key: value for key, value in how.items() if key != "assisted"} | assisting
        theirs = generated(model_of(name), prompts(length), new=new, **settings)
        assert torch.equal(generated(model, prompts(length), new=new, **settings), theirs)
    assert tpu_dynamo.stats().lowerings <= (9 if "assisted" in how else 5)


def test_a_quantised_cache():
    """Keys and values are kept as float8; a graph for the prompt, and two for one more token."""
    how = {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}, "new": 48}
    model = with_growing_cache("llama")
    for length in (20, 45):
        theirs = generated(model_of("llama"), prompts(length), **how)
        assert torch.equal(generated(model, prompts(length), **how), theirs)
    assert tpu_dynamo.stats().lowerings <= 7


def test_continuous_batching():
    """Its cache is kept out of graphs, so that there is a program for each piece; requests and layers need no more."""
    from transformers import CompileConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    model = decoder("llama", {"do_sample": False, "max_new_tokens": 8}, num_hidden_layers=1, attn_implementation="sdpa")
    how: Any = {"varlen_compile_config": CompileConfig(backend="tpu", mode="default", dynamic=False)}
    batching = ContinuousBatchingConfig(page_size=16, num_blocks=32, max_batch_tokens=128, **how)
    given = [prompts(length)[0].tolist() for length in (9, 14)]
    counts, found = [], []
    for _ in range(2):
        outputs = model.generate_batch(given, continuous_batching_config=batching, progress_bar=False)
        found.append([list(each.generated_tokens) for each in outputs.values()])
        counts.append(tpu_dynamo.stats().lowerings)
    theirs = [generated(model, torch.tensor([each]), new=8)[0, len(each) :].tolist() for each in given]
    assert found == [theirs, theirs]
    assert 0 < counts[0] <= 13
    assert counts[1] == counts[0]
    torch._dynamo.reset()
    deep = decoder("llama", {"do_sample": False, "max_new_tokens": 8}, num_hidden_layers=3, attn_implementation="sdpa")
    deep.generate_batch(given, continuous_batching_config=batching, progress_bar=False)
    assert tpu_dynamo.stats().graphs["inference"] > counts[0]
    assert tpu_dynamo.stats().lowerings == counts[0]


def in_a_process(name: str, way: str, device: str) -> None:
    """Print how many programs `generate` lowers and compiles for prompts of two lengths, and the digest of its tokens."""
    with pytest.MonkeyPatch.context() as patch:
        model, settings = way_of(name, way, patch, device)
        tokens = [
            generated(model, prompts(length), device, **settings).flatten().tolist() for length in lengths(name, 2)
        ]
    stats = tpu_dynamo.stats()
    digest = zlib.crc32(str(tokens).encode())
    print(stats.lowerings, stats.xla_compiles, stats.autograd_cache.get("miss", 0), digest)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize("way", ["growing", "static"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_second_process_lowers_and_compiles_nothing(name, way, device):
    """One graph whose sizes or ints change is traced again: Dynamo begins it anew, since floats in it are no inputs."""
    said = []
    for _ in range(2):
        command = [sys.executable, "-W", "ignore", "-c", PROCESS, name, way, device]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        said.append(run.stdout.split()[-4:])
    lowered, compiled, misses, digest = said[1]
    assert int(said[0][0]) > 0
    assert (lowered, compiled, digest) == ("0", "0", said[0][3])
    assert int(misses) <= (way == "growing" or name == "mistral")
