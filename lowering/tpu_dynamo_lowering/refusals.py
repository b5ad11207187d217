"""The words for operators that have no lowering: what they are, and what to do about it."""

from __future__ import annotations

from torch.fx import Node

from . import outside
from ._torch_compat import HigherOrderOperator, OpOverload
from .errors import Unsupported
from .writing_operators.calls import written_operator

HINT = (
    'compute it outside the compiled function, run such graphs in eager with options={"fallback": "eager"}, '
    "or open an issue that names the operator"
)
_ALONE = 'run it alone in eager, and the rest compiled, with options={"fallback": "operator"}'
_OF_A_LIBRARY = f"say what it computes with tpu_dynamo.lowers, or {_ALONE}"


def refusal(node: Node) -> Unsupported:
    """Return the refusal of a call for which no table says anything."""
    target = node.target
    if isinstance(target, HigherOrderOperator) and "triton_kernel" in str(target):
        return Unsupported.at(
            node,
            "a Triton kernel is code for GPUs",
            "write it in Pallas, as an operator by tpu_dynamo.jax_op, or in PyTorch's operators",
        )
    if (written := written_operator(node)) is not None:
        why = "; ".join((f"no lowering says what {written} writes to its arguments", *outside.broken_entry_points()))
        return Unsupported.at(node, why, _OF_A_LIBRARY)
    why = "no rewrite, kernel or decomposition says what it means in StableHLO"
    if not isinstance(target, OpOverload) or target.namespace in ("aten", "prims"):
        return Unsupported.at(node, why, HINT)
    return Unsupported.at(node, "; ".join((why, *outside.broken_entry_points())), _OF_A_LIBRARY)
