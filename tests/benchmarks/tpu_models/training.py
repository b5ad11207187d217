"""Training steps: a model of PyTorch with its loss and optimizer, and the same in JAX in each of its phrasings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
import transformers as t
from jax import Array, lax

from tpu_dynamo_lowering import jax_compat

from . import convolutional, transformers
from .families import pictures, reader, tokens, weights_of
from .phrasings import PHRASINGS, Phrasing, Take

# The loss, and new values of weights that are no parameters.
Loss = Callable[..., tuple[Array, dict[str, Array]]]
Tree = Mapping[str, Any]
RATE = 1e-4


@dataclass(frozen=True)
class Step:
    """A step of training.

    build: returns the PyTorch module and a batch, inputs and targets, all on the meta device. optimizer: makes one of
    parameters. phrasings: functions of `Take`, inputs and targets to a Loss. inputs: shapes by phrasing.
    update: the optimizer in JAX.
    """

    build: Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]
    optimizer: Callable[..., torch.optim.Optimizer]
    phrasings: Mapping[str, Loss]
    inputs: Callable[[str], tuple[jax.ShapeDtypeStruct, ...]]
    update: Callable[[Array, Array, Any, Array], tuple[Array, Any]]
    moments: int


def lowered(step: Step, phrasing: str) -> bytes:
    """Return the StableHLO of a step in JAX; weights and the optimizer's state are donated."""
    loss, inputs = step.phrasings[phrasing], step.inputs(phrasing)
    weights = weights_of(lambda w, *given: loss(w, *given)[0], inputs)
    taken = {name: weight for name, weight in weights.items() if not name.endswith((".mean", ".variance"))}
    state = {name: (weight,) * step.moments for name, weight in taken.items()}
    kept = {name: weight for name, weight in weights.items() if name not in taken}

    def program(weights: Tree, kept: Tree, state: Tree, count: Array, *batch: Array) -> Any:
        def of(weights: Tree) -> Any:
            return loss(reader({**weights, **kept}), *batch)

        (found, statistics), gradients = jax.value_and_grad(of, has_aux=True)(weights)
        count = count + 1
        updated = {name: step.update(weights[name], gradients[name], state[name], count) for name in weights}
        new = {name: each[0] for name, each in updated.items()}
        return found, new, statistics, {name: each[1] for name, each in updated.items()}, count

    jitted = jax.jit(program, donate_argnums=(0, 1, 2))
    traced = jitted.trace(taken, kept, state, jax.ShapeDtypeStruct((), jnp.float32), *inputs)
    return jax_compat.to_bytecode(traced.lower(lowering_platforms=("tpu",)).compiler_ir("stablehlo"))


def adamw(weight: Array, gradient: Array, state: Any, count: Array) -> tuple[Array, Any]:
    """One step of AdamW, with moments in the dtype of the weight, as torch.optim.AdamW keeps them."""
    first = 0.9 * state[0] + 0.1 * gradient
    second = 0.999 * state[1] + 0.001 * gradient**2
    size, scale = RATE / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
    new = weight * (1 - RATE * 1e-2) - size * first / (jnp.sqrt(second) / scale + 1e-8)
    return new.astype(weight.dtype), (first, second)


def sgd(weight: Array, gradient: Array, state: Any, count: Array) -> tuple[Array, Any]:
    """One step of gradient descent with momentum."""
    momentum = 0.9 * state[0] + gradient
    return weight - RATE * momentum, (momentum,)


def cross_entropy(precise: bool, logits: Array, targets: Array) -> Array:
    """Compute the mean cross entropy of [..., classes] logits, in float32 or in the dtype of the logits."""
    shares = jax.nn.log_softmax(logits.astype(jnp.float32) if precise else logits)
    return -jnp.take_along_axis(shares, targets[..., None], -1).mean()


def of_words(model: Callable[..., Array], phrasing: Phrasing, precise: bool) -> Loss:
    """Make the loss of a language model."""

    def loss(w: Take, words: Array, targets: Array) -> tuple[Array, dict[str, Array]]:
        return cross_entropy(precise, model(phrasing, w, words), targets), {}

    return loss


def bert_with_head(p: Phrasing, w: Take, words: Array) -> Array:
    """[batch, length] tokens to logits; the head is tied."""
    y = jax.nn.gelu(p.linear(w, "head", transformers.bert(p, w, words), 768), approximate=False)
    return p.norm(w, "head.norm", y, 1e-12) @ w("words", 30522, 768).T + w("head.words.bias", 30522)


@dataclass(frozen=True)
class TrainedImages(convolutional.Images):
    """A way to write convolutions and batch norms whose statistics are the batch's; it keeps the running ones."""

    running: dict[str, Array] = field(default_factory=dict)

    def batch_norm(self, w: Take, name: str, x: Array) -> Array:
        scale, bias = (w(f"{name}.{part}", x.shape[self.channels]) for part in ("scale", "bias"))
        axes = (0, *self.spatial)
        precise = x.astype(jnp.float32)
        mean = precise.mean(axes)
        if self.folded:
            variance = (precise**2).mean(axes) - mean**2
        else:
            variance = ((precise - self.along(mean)) ** 2).mean(axes)
        for part, found in (("mean", mean), ("variance", variance)):
            old = w(f"{name}.{part}", x.shape[self.channels])
            self.running[f"{name}.{part}"] = (0.9 * old + 0.1 * found).astype(old.dtype)
        factor = scale * lax.rsqrt(variance + 1e-5)
        y = (precise - self.along(mean)) * self.along(factor) + self.along(bias.astype(jnp.float32))
        return y.astype(x.dtype)


def resnet50_loss(channels: int, one_pass: bool) -> Loss:
    """Make the loss of ResNet-50 with 1,000 classes."""

    def loss(w: Take, images: Array, targets: Array) -> tuple[Array, dict[str, Array]]:
        form = TrainedImages(channels, one_pass, {})
        logits = convolutional.resnet50(form, w, images) @ w("classes.kernel", 2048, 1000) + w("classes.bias", 1000)
        return cross_entropy(True, logits, targets), form.running

    return loss


def loss_of(output: Any, targets: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy of a model's output in transformers."""
    return torch.nn.functional.cross_entropy(output.logits.flatten(0, -2), targets.flatten())


def of_transformers(model: Callable[..., torch.nn.Module], config: Any, batch: tuple[torch.Tensor, ...]) -> Any:
    with torch.device("meta"):
        return model(config).to(torch.bfloat16).train(), batch


def words_of(batch: int, length: int) -> tuple[torch.Tensor, ...]:
    return (torch.empty(batch, length, dtype=torch.int64, device="meta"),) * 2


def gpt2() -> Any:
    config = t.GPT2Config(n_layer=transformers.LAYERS, use_cache=False, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0)
    return of_transformers(t.GPT2LMHeadModel, config, words_of(8, 512))


def bert() -> Any:
    config = t.BertConfig(num_hidden_layers=transformers.LAYERS, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    return of_transformers(t.BertForMaskedLM, config, words_of(16, 256))


def resnet50() -> Any:
    images = torch.empty(16, 3, 224, 224, dtype=torch.bfloat16, device="meta")
    classes = torch.empty(16, dtype=torch.int64, device="meta")
    return of_transformers(t.ResNetForImageClassification, t.ResNetConfig(num_labels=1000), (images, classes))


def twice(batch: int, length: int) -> Callable[[str], tuple[jax.ShapeDtypeStruct, ...]]:
    return lambda phrasing: (*tokens(batch, length)(phrasing),) * 2


def labelled(phrasing: str) -> tuple[jax.ShapeDtypeStruct, ...]:
    return (*pictures(16, 224)(phrasing), jax.ShapeDtypeStruct((16,), jnp.int32))


def in_words(model: Callable[..., Array]) -> dict[str, Loss]:
    return {
        "by hand": of_words(model, PHRASINGS["by hand"], precise=False),
        "with libraries": of_words(model, PHRASINGS["with libraries"], precise=True),
    }


ADAMW = partial(torch.optim.AdamW, lr=RATE)
SGD = partial(torch.optim.SGD, lr=RATE, momentum=0.9)

STEPS: dict[str, Step] = {
    "GPT-2": Step(gpt2, ADAMW, in_words(transformers.gpt2), twice(8, 512), adamw, 2),
    "BERT": Step(bert, ADAMW, in_words(bert_with_head), twice(16, 256), adamw, 2),
    "ResNet-50": Step(
        resnet50,
        SGD,
        {
            "channels last, norms in two passes": resnet50_loss(3, one_pass=False),
            "channels last, one-pass norms": resnet50_loss(3, one_pass=True),
        },
        labelled, sgd, 1,
    ),
}  # fmt: skip
