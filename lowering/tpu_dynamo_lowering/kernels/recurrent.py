"""LSTMs and GRUs: one fused step, as torch.nn calls on devices, and an LSTM layer for inference, as it calls on a CPU.

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
    """Compute an LSTM's next hidden and cell state, and the activated gates for the gradient.

    input_gates, hidden_gates: [batch, 4 * hidden], in the order input, forget, cell, output; cx: [batch, hidden].
    Results: [batch, hidden] twice, then [batch, 4 * hidden].
    """
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
    """Compute the gradients of an LSTM cell's gates, cell state and, if `has_bias`, bias."""
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
    """Compute a GRU's next hidden state, and the workspace for the gradient.

    input_gates, hidden_gates: [batch, 3 * hidden], in the order reset, update, new; hx: [batch, hidden]. Results:
    [batch, hidden], [batch, 5 * hidden].
    """
    given = jnp.split(_gates(input_gates, input_bias), 3, axis=-1)
    hidden = jnp.split(_gates(hidden_gates, hidden_bias), 3, axis=-1)
    reset, update = jax.nn.sigmoid(given[0] + hidden[0]), jax.nn.sigmoid(given[1] + hidden[1])
    new = jnp.tanh(given[2] + reset * hidden[2])
    state = wide(hx)
    return new + update * (state - new), jnp.concatenate([reset, update, new, state, hidden[2]], -1)


@kernel(aten._thnn_fused_gru_cell_backward.default)
def gru_cell_backward(grad_hy: Array, workspace: Array, has_bias: bool) -> tuple[Array, Array, Array, Array, Array]:
    """Compute the gradients of a GRU cell's input gates, hidden gates, hidden state and, if `has_bias`, both biases."""
    reset, update, new, state, hidden = jnp.split(wide(workspace), 5, axis=-1)
    gradient = wide(grad_hy)
    of_new = gradient * (1 - update) * (1 - new**2)
    of_update = gradient * (state - new) * update * (1 - update)
    of_reset = of_new * hidden * reset * (1 - reset)
    given = jnp.concatenate([of_reset, of_update, of_new], -1)
    inner = jnp.concatenate([of_reset, of_update, of_new * reset], -1)
    none = jnp.zeros((0,), given.dtype)
    of_biases = (jnp.sum(given, 0), jnp.sum(inner, 0)) if has_bias else (none, none)
    return given, inner, gradient * update, of_biases[0], of_biases[1]


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
    """Run all steps of one direction of one LSTM layer; return the outputs, the last states and an empty workspace.

    input: [steps, batch, features], or batch first. weight0, weight1: of the input and the hidden state, [4 * hidden,
    features]. weight2, weight3: their biases. Raises NotImplementedError for other modes than LSTM, several layers,
    both directions, packed sequences and training.
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
