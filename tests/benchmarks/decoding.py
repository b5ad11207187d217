"""Tokens per second of decoding with batch 1 on this machine's CPU, each way beside eager PyTorch and Inductor.

    python -m tests.benchmarks.decoding [--model small|gpt2] [--tokens 64] [--ways "eager;loop"]
    python -m tests.benchmarks.decoding --overhead 32

The second form measures what a step costs beside its execution, for a Llama of so many layers and width 32.
"""

from __future__ import annotations

import argparse
import time
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import tpu_dynamo

WAYS = ("eager", "inductor", "inductor, freezing", "inductor, max-autotune", "static", "loop")


def gpt2(size: str) -> Any:
    """Return GPT-2 with random weights: 124M parameters, or two layers of width 64."""
    from transformers import GPT2Config, GPT2LMHeadModel

    more: dict[str, Any] = dict(n_layer=2, n_head=4, n_embd=64, vocab_size=256) if size == "small" else {}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**more, bos_token_id=0, eos_token_id=None, pad_token_id=0)).eval()


def steps(model: Any, backend: str, room: int, **how: Any) -> Callable[[Tensor, int], Tensor]:
    """Return greedy decoding token by token with a static cache; the step compiled by a backend, the prompt in eager.

    how: more arguments of `torch.compile`.
    """
    from transformers import StaticCache

    def step(token: Tensor, place: Tensor, cache: Any) -> Tensor:
        scores = model(token, position_ids=place.view(1, 1), past_key_values=cache, use_cache=True).logits
        return scores[:, -1:].argmax(-1)

    # Code of its own, so that one way's graphs are not in the way of another's.
    own = types.FunctionType(step.__code__.replace(), globals(), "step", None, step.__closure__)
    compiled: Callable[..., Tensor] = torch.compile(own, backend=backend, fullgraph=True, dynamic=False, **how)

    def decode(tokens: Tensor, count: int) -> Tensor:
        cache = StaticCache(config=model.config, max_cache_len=room)
        found = [model(tokens, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)]
        place = torch.tensor(tokens.shape[1])
        for _ in range(count - 1):
            found.append(compiled(found[-1], place, cache))
            place += 1
        return torch.cat([tokens, *found], 1)

    return decode


def ways(model: Any, room: int) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Return the functions that decode, by name."""
    return {
        "eager": lambda tokens, count: model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False
        ),
        "inductor": steps(model, "inductor", room),
        "inductor, freezing": steps(model, "inductor", room, options={"freezing": True}),
        "inductor, max-autotune": steps(model, "inductor", room, mode="max-autotune-no-cudagraphs"),
        "static": steps(model, "tpu", room),
        "loop": lambda tokens, count: tpu_dynamo.decode_loop(
            model, tokens, max_new_tokens=count, cache_length=room
        ),
    }  # fmt: skip


def measure(size: str, count: int, names: list[str], repeats: int = 3) -> None:
    """Print tokens per second of each way, the best of some runs that take turns, and whether the tokens are equal."""
    model, tokens = gpt2(size), torch.randint(1, 256, (1, 16), generator=torch.Generator().manual_seed(0))
    functions = {name: ways(model, 16 + count)[name] for name in names}
    best = dict.fromkeys(names, float("inf"))
    results: dict[str, Tensor] = {}
    first: dict[str, float] = {}
    with torch.no_grad():
        for name, function in functions.items():
            started = time.perf_counter()
            results[name] = function(tokens, count)
            first[name] = time.perf_counter() - started
        for _ in range(repeats):
            for name, function in functions.items():
                started = time.perf_counter()
                function(tokens, count)
                best[name] = min(best[name], time.perf_counter() - started)
    print(f"GPT-2 {size}, batch 1, 16 tokens and {count} new ones, {torch.get_num_threads()} threads")
    for name in names:
        equal = torch.equal(results[name], results[names[0]])
        print(
            f"  {name:22} {count / best[name]:9.1f} tokens/s  {best[names[0]] / best[name]:6.2f} of {names[0]}"
            f"  first call {first[name]:6.1f} s  tokens {'equal' if equal else 'DIFFER'}"
        )
    print(f"  compiled by backend tpu: {tpu_dynamo.stats().xla_compiles} executables")


def overhead(layers: int, repeats: int = 60) -> None:
    """Print the milliseconds of a compiled decode step, and of its part that is the graph's execution."""
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval().requires_grad_(False)
    cache: Any = StaticCache(config=config, max_cache_len=64)
    token, place = torch.tensor([[5]]), torch.tensor([[8]])
    model(torch.ones(1, 8, dtype=torch.int64), past_key_values=cache)

    def step(token: Tensor, place: Tensor, cache: Any) -> Tensor:
        return model(token, past_key_values=cache, position_ids=place).logits

    def compiled(**options: Any) -> Callable[..., Any]:
        code = step.__code__.replace()
        own = types.FunctionType(code, globals(), "step", None, step.__closure__)
        return torch.compile(own, backend="tpu", fullgraph=True, dynamic=False, options=options or None)

    def report(name: str, function: Callable[..., Any]) -> None:
        seconds = []
        for _ in range(repeats + 2):
            for layer in cache.layers:
                layer.cumulative_length.fill_(8)
            started = time.perf_counter()
            function(token, place, cache)
            seconds.append(time.perf_counter() - started)
        seconds = sorted(seconds[2:])
        print(f"  {name:52} least {seconds[0] * 1e3:6.2f} ms, median {seconds[repeats // 2] * 1e3:6.2f} ms")

    print(f"a decode step of {layers} layers")
    checked = compiled()
    report("all guards", checked)
    with torch.compiler.set_stance(skip_guard_eval_unsafe=True):
        report("set_stance(skip_guard_eval_unsafe=True)", checked)
    unguarded = compiled(guard_filter_fn=torch.compiler.skip_guard_on_all_nn_modules_unsafe)
    report("skip_guard_on_all_nn_modules_unsafe", unguarded)


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["small", "gpt2"], default="small")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--ways", default=";".join(WAYS))
    parser.add_argument("--overhead", type=int, metavar="LAYERS")
    given = parser.parse_args()
    if given.overhead:
        with torch.no_grad():
            overhead(given.overhead)
    else:
        measure(given.model, given.tokens, given.ways.split(";"))


if __name__ == "__main__":
    main()
