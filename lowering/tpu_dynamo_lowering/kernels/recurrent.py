"""One step of an LSTM, fused: what torch.nn.LSTM calls on devices.

Source: ATen `RNN.cu`, whose workspace this keeps: the activated gates.
"""

from __future__ import annotations

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
