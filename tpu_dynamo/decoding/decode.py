"""tpu_dynamo.decode_loop: tokens after a prompt, many steps by one executable."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..backend import compile_captured
from ..buckets import buckets_of
from ..options import OptionError, Options
from .cached_models import CachedModel, is_transformers
from .choosing import Choice
from .loop_graph import repeated
from .refusal import DecodingRefused
from .stepwise import StatefulStep

__all__ = ["DecodingRefused", "decode_loop"]

# Options of torch.compile that a loop does not support, and why.
_UNSUPPORTED_OPTIONS = {
    "fallback": "the loop is one executable, so an operator that has no lowering is an error",
    "freeze": "the loop's cache changes; parameters are inputs of its program",
}


@dataclass
class Sequences:
    """Sequences while they grow.

    tokens: int64[batch, room], the prompts and what was chosen. place: int64[], that of the last token. until: int64[],
    the place at which a call stops. ended: bool[batch]. mask: int64[batch, room], 0 for padding before prompts.
    """

    tokens: Tensor
    place: Tensor
    until: Tensor
    ended: Tensor
    mask: Tensor

    def append(self, chosen: Tensor, choice: Choice) -> None:
        """Write one more token of each sequence, int64[batch], in place; padding where a sequence has ended."""
        chosen = torch.where(self.ended, choice.padding, chosen)
        self.place.add_(1)
        self.tokens.index_copy_(1, self.place.view(1), chosen[:, None])
        self.ended.logical_or_(choice.ended(chosen))


class Decoder:
    """Two compiled functions that decode with one model, one choice of tokens and one set of options."""

    def __init__(self, step: CachedModel | StatefulStep, choice: Choice, options: Options):
        self._step, self._choice, self._options = step, choice, options

        def prefill(model: Any, tokens: Tensor, last: Tensor, cache: Any, sequences: Sequences) -> None:
            sequences.append(choice.tokens(step.first(model, tokens, last, cache, sequences.mask)), choice)

        def one_step(model: Any, cache: Any, sequences: Sequences) -> Tensor:
            token = sequences.tokens.index_select(1, sequences.place.view(1))
            sequences.append(choice.tokens(step.next(model, token, sequences.place, cache, sequences.mask)), choice)
            return (sequences.place < sequences.until) & ~sequences.ended.all()

        self._prefill = torch.compile(_own_code(prefill), backend=_backend(options), fullgraph=True, dynamic=False)
        self._repeat = torch.compile(
            _own_code(one_step), backend=_backend(options, repeated), fullgraph=True, dynamic=False
        )

    @torch.no_grad()
    def decode(
        self,
        model: Any,
        prompts: Tensor,
        mask: Tensor | None,
        state: Any,
        count: int,
        room: int | None = None,
        every: int | None = None,
    ) -> Iterator[Tensor]:
        """Yield new tokens, int64[batch, n], until all sequences have ended or have `count`; `every` at a time."""
        length = prompts.shape[1]
        padded, room = self._sizes(length, count, room)
        sequences = _begin(prompts, mask, room)
        cache = self._step.cache(model, room) if isinstance(self._step, CachedModel) else state
        tokens = torch.nn.functional.pad(prompts, (0, padded - length))
        self._prefill(model, tokens, sequences.place.clone(), cache, sequences)
        have, given = length + 1, length
        while True:
            wanted = min(given + (every or count), length + count)
            if have < wanted and not self._all_ended(sequences):
                sequences.until.fill_(wanted - 1)
                self._repeat(model, cache, sequences)
                have = int(sequences.place) + 1 if self._choice.ends else wanted
            yield sequences.tokens[:, given:have].clone()
            if have < wanted or have == length + count or self._all_ended(sequences):
                return
            given = have

    def _all_ended(self, sequences: Sequences) -> bool:
        return bool(self._choice.ends) and bool(sequences.ended.all())

    def _sizes(self, length: int, count: int, room: int | None) -> tuple[int, int]:
        """Return the length to which prompts are padded, and the room for them and the new tokens."""
        needed = length + count
        buckets = buckets_of(self._options.buckets, "") if self._options.buckets else None
        if room is None:
            room = needed if buckets is None else buckets.of(needed)
        if room < needed:
            raise ValueError(f"cache_length={room} has no room for {length} tokens and {count} new ones")
        if buckets is None or isinstance(self._step, StatefulStep):
            return length, room
        return buckets.of(length, room), room


def _begin(prompts: Tensor, mask: Tensor | None, room: int) -> Sequences:
    batch, length = prompts.shape
    device = prompts.device
    whole = torch.ones(batch, room, dtype=torch.int64, device=device)
    if mask is not None:
        if mask.shape != prompts.shape or bool((mask[:, 1:] < mask[:, :-1]).any()) or not bool(mask[:, -1].all()):
            raise ValueError("attention_mask must have the shape of input_ids, with zeros before each prompt alone")
        whole[:, :length] = mask
    tokens = torch.zeros(batch, room, dtype=torch.int64, device=device)
    tokens[:, :length] = prompts
    place = torch.full((), length - 1, dtype=torch.int64, device=device)
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    return Sequences(tokens, place, place.clone(), ended, whole)


def _backend(options: Options, rewritten: Callable[[GraphModule], GraphModule] | None = None) -> Callable[..., Any]:
    # Under the name of a registered backend: Dynamo then lets go of the tensors that it saw.
    def tpu_dynamo(graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        return compile_captured(graph_module, example_inputs, options, rewritten)

    return tpu_dynamo


def _own_code(function: Any) -> Any:
    """Return the function with a code object of its own, by which Dynamo keeps and counts its compilations."""
    return types.FunctionType(
        function.__code__.replace(), function.__globals__, function.__name__, None, function.__closure__
    )


# Decoders by model, and for each by choice and options.
_decoders: weakref.WeakKeyDictionary[Any, dict[Any, Decoder]] = weakref.WeakKeyDictionary()


def decode_loop(
    model: Callable[..., Any],
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    state: Any = None,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    cache_length: int | None = None,
    stream: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return the prompts and the tokens after them; all steps but the first are one executable, repeated by a loop.

    The prompt is one program, and chooses the first token; the other is a loop on the device of the step (forward with
    the cache, choice, cache update) until all sequences have ended or have `max_new_tokens`. Both are kept on disk.
    With do_sample=False the tokens are those of transformers' `generate`.

    model: a decoder of transformers with a static cache, or a function `scores, state = model(tokens, state)` of
    tokens int64[batch, n], the prompt and then one at a time, and of a state of tensors that keep their shapes, with
    scores float[batch, n, vocabulary]. input_ids: int64[batch, length]. attention_mask: 0 for padding, which stands
    before the prompts. state: that of a function, written in place. do_sample, temperature, top_k, top_p: as in
    `generate`, but the model's own configuration of these is not read. eos_token_id, pad_token_id: by default the
    model's own. cache_length: the room for prompt and new tokens, a shape of the programs; by default just enough, or
    the bucket of that. stream: return instead an iterator over new tokens, int64[batch, up to n], as each n are there.
    options: as for torch.compile(backend="tpu"); prompts of a model of transformers are padded to `buckets`.
    Raises DecodingRefused for models and steps that a loop cannot repeat, ValueError for numbers that do not fit.
    """
    if max_new_tokens < 1 or (stream is not None and stream < 1):
        raise ValueError(f"max_new_tokens={max_new_tokens} and stream={stream} must be at least 1")
    if input_ids.ndim != 2 or not input_ids.shape[1]:
        raise ValueError(
            f"input_ids must be prompts of one token at least, [batch, length], not {tuple(input_ids.shape)}"
        )
    step = CachedModel(model) if is_transformers(model) else StatefulStep()
    ends = step.ends if eos_token_id is None else eos_token_id
    ends = (ends,) if isinstance(ends, int) else tuple(ends)
    padding = next((each for each in (pad_token_id, step.padding, *ends) if each is not None), 0)
    choice = Choice(do_sample, temperature, top_k, top_p, ends, padding)
    decoder = _decoder(model, step, choice, _options(options))
    parts = decoder.decode(model, input_ids, attention_mask, state, max_new_tokens, cache_length, stream)
    if stream is not None:
        return parts
    return torch.cat([input_ids, *parts], 1)


def _options(given: Mapping[str, Any] | None) -> Options:
    chosen, default = Options.parse(given), Options()
    for name, why in _UNSUPPORTED_OPTIONS.items():
        if getattr(chosen, name) != getattr(default, name):
            raise OptionError(f"option {name}={getattr(chosen, name)!r} has no meaning for decode_loop: {why}")
    return chosen


def _decoder(model: Any, step: CachedModel | StatefulStep, choice: Choice, options: Options) -> Decoder:
    decoders = _decoders.setdefault(model, {})
    key = choice, options
    if key not in decoders:
        decoders[key] = Decoder(step, choice, options)
    return decoders[key]
