"""LSTMs and GRUs: one step, fused, which torch.nn calls on devices, and the LSTM's layer for inference on a CPU.

Source: ATen `RNN.cu`, whose workspaces the steps keep; `mkldnn/RNN.cpp` for the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .reductions import wide

aten = torch.ops.aten


def _gates(gates: Array, bias: Array | None) -> Array:
    return wide(gates) if bias is None else wide(gates) + wide(bias)


@kernel(aten._thnn_fused_lstm_cell.default)
def lstm_cell(
    input_gates: Array,
    hidden_gates: Array,
    cx: Array,
    input_bias: Array | None = None,
    hidden_bias: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The next hidden and cell state, [batch, hidden] each, from gates [batch, 4 hidden], and the activated gates."""
    gates = _gates(input_gates, input_bias) + _gates(hidden_gates, hidden_bias)
    taken, kept, new, shown = jnp.split(gates, 4, axis=-1)
    taken, kept, shown = (jax.nn.sigmoid(gate) for gate in (taken, kept, shown))
    new = jnp.tanh(new)
    cy = kept * wide(cx) + taken * new
    return shown * jnp.tanh(cy), cy, jnp.concatenate([taken, kept, new, shown], -1)


@kernel(aten._thnn_fused_lstm_cell_backward_impl.default)
def lstm_cell_backward(
    grad_hy: Array | None, grad_cy: Array | None, cx: Array, cy: Array, workspace: Array, has_bias: bool
) -> tuple[Array, Array, Array]:
    """The gradients of the gates, of the cell state and of a bias."""
    taken, kept, new, shown = jnp.split(wide(workspace), 4, axis=-1)
    of_hidden = jnp.zeros_like(taken) if grad_hy is None else wide(grad_hy)
    of_cell = jnp.zeros_like(taken) if grad_cy is None else wide(grad_cy)
    squashed = jnp.tanh(wide(cy))
    of_cell = of_cell + of_hidden * shown * (1 - squashed**2)
    gates = jnp.concatenate(
        [
            of_cell * new * taken * (1 - taken),
            of_cell * wide(cx) * kept * (1 - kept),
            of_cell * taken * (1 - new**2),
            of_hidden * squashed * shown * (1 - shown),
        ],
        -1,
    )
    return gates, of_cell * kept, jnp.sum(gates, 0) if has_bias else jnp.zeros((0,), gates.dtype)


@kernel(aten._thnn_fused_gru_cell.default)
def gru_cell(
    input_gates: Array,
    hidden_gates: Array,
    hx: Array,
    input_bias: Array | None = None,
    hidden_bias: Array | None = None,
) -> tuple[Array, Array]:
    """The next hidden state, [batch, hidden], from gates [batch, 3 hidden], and [batch, 5 hidden] for the backward."""
    given = jnp.split(_gates(input_gates, input_bias), 3, axis=-1)
    hidden = jnp.split(_gates(hidden_gates, hidden_bias), 3, axis=-1)
    reset, update = jax.nn.sigmoid(given[0] + hidden[0]), jax.nn.sigmoid(given[1] + hidden[1])
    new = jnp.tanh(given[2] + reset * hidden[2])
    state = wide(hx)
    return new + update * (state - new), jnp.concatenate([reset, update, new, state, hidden[2]], -1)


@kernel(aten._thnn_fused_gru_cell_backward.default)
def gru_cell_backward(grad_hy: Array, workspace: Array, has_bias: bool) -> tuple[Array, Array, Array, Array, Array]:
    """The gradients of both gates, of the hidden state and of both biases."""
    reset, update, new, state, hidden = jnp.split(wide(workspace), 5, axis=-1)
    gradient = wide(grad_hy)
    of_new = gradient * (1 - update) * (1 - new**2)
    of_update = gradient * (state - new) * update * (1 - update)
    of_reset = of_new * hidden * reset * (1 - reset)
    given = jnp.concatenate([of_reset, of_update, of_new], -1)
    inner = jnp.concatenate([of_reset, of_update, of_new * reset], -1)
    biases = (jnp.sum(given, 0), jnp.sum(inner, 0)) if has_bias else (jnp.zeros((0,), given.dtype),) * 2
    return given, inner, gradient * update, *biases


_LSTM = 2  # of ATen's rnn_mode; the only one that torch.nn gives to this operator


@kernel(aten.mkldnn_rnn_layer.default)
def lstm_layer(
    input: Array,
    weight0: Array,
    weight1: Array,
    weight2: Array,
    weight3: Array,
    hx_: Array,
    cx_: Array,
    reverse: bool,
    batch_sizes: Sequence[int],
    mode: int,
    hidden_size: int,
    num_layers: int,
    has_biases: bool,
    bidirectional: bool,
    batch_first: bool,
    train: bool,
) -> tuple[Array, Array, Array, Array]:
    """All steps of one direction of one layer: [steps, batch, hidden], the last states, and an empty workspace.

    weight0, weight1: of the input and the hidden state, [4 hidden, features]. weight2, weight3: their biases.
    """
    if mode != _LSTM or num_layers != 1 or bidirectional or batch_sizes or train:
        raise NotImplementedError("only one direction of one LSTM layer is lowered, for inference on padded sequences")
    steps = jnp.swapaxes(input, 0, 1) if batch_first else input
    gates = jnp.matmul(wide(steps), wide(weight0).T)
    if has_biases:
        gates = gates + wide(weight2) + wide(weight3)

    def step(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell = state
        hidden, cell, _ = lstm_cell(gates, jnp.matmul(hidden, wide(weight1).T), cell)
        return (hidden, cell), hidden

    start = (wide(hx_).reshape(hx_.shape[-2:]), wide(cx_).reshape(cx_.shape[-2:]))
    (hidden, cell), shown = jax.lax.scan(step, start, gates, reverse=reverse)
    output = jnp.swapaxes(shown, 0, 1) if batch_first else shown
    return output, hidden.reshape(hx_.shape), cell.reshape(cx_.shape), jnp.zeros((0,), jnp.uint8)
