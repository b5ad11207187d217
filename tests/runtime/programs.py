"""StableHLO programs for the tests of the runtime."""

from __future__ import annotations

from tpu_dynamo_lowering import jax_compat


def bytecode(text: str) -> bytes:
    """MLIR text as the bytecode that lowering gives."""
    return jax_compat.to_bytecode(jax_compat.parse(text.encode(), jax_compat.new_context()))


def product(rows: int) -> bytes:
    """tanh(x @ w) of a bfloat16 [rows, 256] and a [256, 256], each operation on a line of its own."""
    x, w = f"tensor<{rows}x256xbf16>", "tensor<256x256xbf16>"
    return bytecode(f"""
    func.func @main(%x: {x}, %w: {w}) -> {x} {{
      %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : ({x}, {w}) -> {x} loc("/model.py:7/mm"("/model.py":7:0))
      %z = stablehlo.tanh %y : {x} loc("/model.py:8/tanh"("/model.py":8:0))
      return %z : {x}
    }}
    """)
